package directory

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/torq/mycelium/internal/segment"
)

// leftoverAge is how old a private directory must be: a younger one may be on
// its way to its first lock.
const leftoverAge = time.Minute

// RemoveLeftovers removes the directories below root of that prefix which killed
// processes of this user have left: private buses, whose owner would have
// removed them. One in which any file is locked still has a process that lives.
func RemoveLeftovers(root, prefix string) {
	all, _ := filepath.Glob(filepath.Join(root, prefix+"*"))
	for _, dir := range all {
		st, err := os.Lstat(dir)
		if err != nil || !st.IsDir() || time.Since(st.ModTime()) < leftoverAge || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		if !inUse(dir) {
			_ = os.RemoveAll(dir)
		}
	}
}

// inUse reports whether a file below dir is locked, or cannot be asked.
func inUse(dir string) bool {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if held, err := segment.Held(f); held || err != nil {
			return fs.ErrExist
		}
		return nil
	})
	return err != nil
}
