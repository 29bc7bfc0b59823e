package runner

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// APIVersion is the newest version of the Docker API that is spoken; an older
// one is agreed on with the engine.
const APIVersion = api.DefaultVersion

// sharedEngine is what RemoveShared calls of the Docker client.
type sharedEngine interface {
	ImageList(ctx context.Context, o image.ListOptions) ([]image.Summary, error)
	ImageRemove(ctx context.Context, id string, o image.RemoveOptions) ([]image.DeleteResponse, error)
	NetworkRemove(ctx context.Context, id string) error
}

var _ sharedEngine = (*client.Client)(nil)

// RemoveShared removes what jobs of all sessions share on an engine and the
// next job makes again: host images, given by ID, and the network. What a
// container uses stays.
func RemoveShared(ctx context.Context, eng sharedEngine) (removed []string, network bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, makeDeadline)
	defer cancel()
	list, err := eng.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "berth.image=host"))})
	if err != nil {
		return nil, false, engineError("list images", err)
	}
	var errs []error
	for _, i := range list {
		_, err := eng.ImageRemove(ctx, i.ID, image.RemoveOptions{})
		switch {
		case err == nil:
			removed = append(removed, i.ID)
		case !errdefs.IsConflict(err) && !errdefs.IsNotFound(err):
			errs = append(errs, engineError("remove image", err))
		}
	}
	err = eng.NetworkRemove(ctx, networkName)
	switch {
	case err == nil:
		network = true
	case errdefs.IsNotFound(err), errdefs.IsPermissionDenied(err), errdefs.IsConflict(err): // none, or in use
	default:
		errs = append(errs, engineError("remove network", err))
	}
	return removed, network, errors.Join(errs...)
}
