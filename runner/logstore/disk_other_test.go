//go:build !linux

package logstore

import "errors"

func mountSmallDisk(string) error { return errors.ErrUnsupported }
