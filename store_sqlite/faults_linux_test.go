package storesqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/acf68eca/usage/internal/proctest"
	"github.com/acf68eca/usage/store"
)

// What a disk does is done to a process of its own: the test binary runs the one test again with this variable set.
const aloneVariable = "USAGE_STORE_SQLITE_TEST_ALONE"

// alone reports whether this process runs the one test only. If not it has another process run it.
func alone(t *testing.T, attributes ...*syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Limit)
	defer cancel()
	var out []byte
	for _, attribute := range append(attributes, nil) {
		command := exec.CommandContext(ctx, executable, "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), aloneVariable+"=yes")
		command.SysProcAttr = attribute
		if out, err = command.CombinedOutput(); !errors.Is(err, syscall.EPERM) {
			break // it has run; what the system did not permit is tried without
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// On a disk that is full, a commit that does not fit is ErrFull. The disk is two megabytes of memory, mounted where only
// this process sees it.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	mounts := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		mounts = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	if !alone(t, mounts) {
		return
	}
	folder := t.TempDir()
	if err := mountMemory(t, folder); err != nil {
		t.Logf("a file system cannot be mounted here (%v): the test of files that may not grow stands in for it", err)
		return
	}
	filler := filepath.Join(folder, "filler")
	survives(t, filepath.Join(folder, "usage.db"), []error{store.ErrFull}, func() {
		if err := fill(filler); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk: %v", err)
		}
	}, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	})
}

func mountMemory(t *testing.T, folder string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=2m"); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return nil
}

// fill writes until there is no room.
func fill(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	return err
}

// A file that may not grow is no full disk to SQLite but an I/O error, after which nobody knows what has reached the
// log.
func TestFileThatMayNotGrow(t *testing.T) {
	t.Parallel()
	if !alone(t) {
		return
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := func(bytes uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	path := newFile(t)
	survives(t, path, []error{store.ErrFull, store.ErrUnavailable, store.ErrUnknownOutcome}, func() {
		log, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		limit(uint64(log.Size()) + 4096)
	}, func() { limit(before.Cur) })
}

// survives fills up the disk of a ledger in use and makes room again.
func survives(t *testing.T, path string, want []error, fill, empty func()) {
	t.Helper()
	h := open(t, path)
	h.prepare()
	before := h.state()
	fill()
	for range 2 {
		err := h.try(append(calls(acme, "during-", 300), calls("globex", "during-", 300)...)...)
		if !isAny(err, want) {
			t.Errorf("Append: %v, want one of %v", err, want)
		}
		equal(t, "the database under the fault", h.state(), before)
	}
	empty()
	equal(t, "the database after the fault", h.state(), before)
	h.healthy()
	h.add(append(calls(acme, "during-", 300), calls("globex", "during-", 300)...)...)
	h.add(calls(acme, "after-", 3)...)
	h.healthy()
	other := open(t, path)
	equal(t, "records that another handle sees", len(other.state().Records), len(before.Records)+603)
	equal(t, "what another handle sees", other.state(), h.state())
}

func isAny(err error, list []error) bool {
	for _, want := range list {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// A user who may read the file and not write it reads as long as somebody who may write has it open, and is told
// otherwise that it may not.
func TestUserWhoMayNotWrite(t *testing.T) {
	if os.Getenv(aloneVariable) == "" {
		path := newFile(t)
		h := open(t, path)
		h.prepare()
		before := h.state()
		folder := filepath.Dir(path)
		for _, change := range []struct {
			path string
			mode os.FileMode
		}{{filepath.Dir(folder), 0o755}, {path, 0o444}, {path + "-wal", 0o444}, {path + "-shm", 0o444}, {folder, 0o555}} {
			if err := os.Chmod(change.path, change.mode); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("USAGE_STORE_SQLITE_TEST_PATH", path)
		alone(t)
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		equal(t, "the database", h.state(), before)
		h.add(calls(acme, "after-", 1)...)
		h.healthy()
		return
	}
	const nobody = 65534
	if os.Getuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			t.Fatal(err)
		}
	}
	h := open(t, os.Getenv("USAGE_STORE_SQLITE_TEST_PATH"))
	equal(t, "records", len(h.state().Records), 20)
	is(t, "Append", h.try(calls(acme, "x", 1)...), store.ErrReadOnly)
	is(t, "Suspend", h.Suspend(t.Context(), noon(), acme, "unpaid"), store.ErrReadOnly)
	is(t, fmt.Sprintf("Rebuild as %d", os.Getuid()), h.Rebuild(t.Context(), acme), store.ErrReadOnly)
	equal(t, "records", len(h.state().Records), 20)
}
