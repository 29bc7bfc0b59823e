package images

// InitArchs lists the architectures (amd64, arm64) for which this build embeds an init, sorted. It is never nil.
func InitArchs() []string {
	archs := []string{}
	for _, arch := range []string{"amd64", "arm64"} {
		if f, err := initbin.Open("initbin/berth-init-linux-" + arch); err == nil {
			f.Close()
			archs = append(archs, arch)
		}
	}
	return archs
}
