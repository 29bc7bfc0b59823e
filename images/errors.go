package images

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoInit says that this build embeds no init for an architecture.
var ErrNoInit = errors.New("this berth was built without its init; build it with make")

// InvalidRefError says that a string is no image reference.
type InvalidRefError struct {
	Ref   string
	Cause error
}

func (e *InvalidRefError) Error() string {
	return fmt.Sprintf("invalid image name %q: %v", e.Ref, e.Cause)
}
func (e *InvalidRefError) Unwrap() error { return e.Cause }

// Reason is why an image could not be pulled.
type Reason string

// The reasons. A registry that hides private repositories answers alike for "absent" and "not yours": that is
// NoSuchImage, and a hint for it does well to mention both.
const (
	NoSuchImage  Reason = "no such image"
	Unauthorised Reason = "not authorised"
	Unreachable  Reason = "registry unreachable"
	PullFailed   Reason = "pull failed" // anything else: a full disk, a broken layer
)

// NotFoundError says that the engine does not have an image and could not pull it.
type NotFoundError struct {
	Ref    string
	Reason Reason
	Cause  error // what the engine said
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("image %q: %s: %s", e.Ref, e.Reason, strings.TrimPrefix(e.Cause.Error(), "Error response from daemon: "))
}
func (e *NotFoundError) Unwrap() error { return e.Cause }

// PlatformError says that an image is of a platform that berth has no init for, or, with Ref [Host], that this
// machine cannot lend its programs to a Linux container.
type PlatformError struct {
	Ref      string
	OS, Arch string
}

func (e *PlatformError) Error() string {
	if e.Ref == Host {
		return fmt.Sprintf("the host image needs linux/amd64 or linux/arm64, and this is %s/%s", e.OS, e.Arch)
	}
	return fmt.Sprintf("image %q is for %s/%s; berth runs linux/amd64 and linux/arm64", e.Ref, e.OS, e.Arch)
}
