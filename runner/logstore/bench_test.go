package logstore

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func BenchmarkAppend32K(b *testing.B) {
	p := pattern(0, 32<<10)
	b.SetBytes(int64(len(p)))
	w, err := Create(b.TempDir(), 1<<40)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w.Append(Stdout, time.Now(), p)
	}
	w.Close()
}

func BenchmarkRawWrite32K(b *testing.B) {
	p := pattern(0, 32<<10)
	b.SetBytes(int64(len(p)))
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, _ = f.Write(p)
	}
	f.Close()
}

func BenchmarkAppend1Byte(b *testing.B) {
	w, err := Create(b.TempDir(), 1<<40)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w.Append(Stdout, time.Now(), []byte{'x'})
	}
	w.Close()
}

func BenchmarkRead4KOf200MB(b *testing.B) {
	for name, most := range map[string]int{"32KAppends": 32 << 10, "lines": 120} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			w, err := Create(dir, 0)
			if err != nil {
				b.Fatal(err)
			}
			p := pattern(0, most)
			for w.end < 200<<20 {
				w.Append(Stdout, time.Now(), p)
			}
			w.Close()
			r, err := Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			rnd := rand.New(rand.NewPCG(7, 7))
			for b.Loop() {
				if _, _, err := r.ReadFrom(rnd.Int64N(200<<20-5000), 4096, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
