package standin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	endTimeout = 20 * time.Second
	killed     = 5 * time.Second
)

// children are the processes that the stand-in starts. When one ends, all end: k3s, too, ends with any of its parts.
type children struct {
	all   []*child
	ended chan error
}

type child struct {
	name    string
	process *os.Process
	done    chan struct{}
}

func newChildren() *children { return &children{ended: make(chan error, 16)} }

// start runs program under the name, in its first argument, and with output as standard output and error. The thread
// that calls it must live as long as the process: the kernel ends children when their thread ends.
func (c *children) start(name, program string, args []string, output io.Writer) error {
	command := exec.Command(program, args...)
	command.Args[0] = name
	command.Stdout, command.Stderr = output, output
	// A child must not tell systemd that this service is ready.
	command.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "NOTIFY_SOCKET=") })
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := command.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	log.Printf("started %s", name)
	one := &child{name, command.Process, make(chan struct{})}
	c.all = append(c.all, one)
	go func() {
		err := command.Wait()
		close(one.done)
		if err == nil {
			err = errors.New("exit status 0")
		}
		c.ended <- fmt.Errorf("%s ended: %w", name, err)
	}()
	return nil
}

// wait until probe succeeds, or any child ends, or the timeout has passed.
func (c *children) wait(ctx context.Context, name string, timeout time.Duration, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begin := time.Now()
	for {
		err := probe(ctx)
		if err == nil {
			log.Printf("%s is ready after %.1f s", name, time.Since(begin).Seconds())
			return nil
		}
		select {
		case ended := <-c.ended:
			return ended
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %.0f s: %w", name, time.Since(begin).Seconds(), err)
		case <-time.After(pollPause):
		}
	}
}

// end all children, those first that were started last.
func (c *children) end() {
	for _, one := range slices.Backward(c.all) {
		_ = one.process.Signal(syscall.SIGTERM)
		select {
		case <-one.done:
		case <-time.After(endTimeout):
			log.Printf("%s has not ended after %.0f s", one.name, endTimeout.Seconds())
			_ = one.process.Kill()
			select {
			case <-one.done:
			case <-time.After(killed):
			}
		}
	}
}
