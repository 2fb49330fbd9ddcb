package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start runs forward between a socket and a TCP port and returns their addresses.
func start(t *testing.T) (socket, port string) {
	t.Helper()
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = probe.Addr().String()
	probe.Close()
	socket = filepath.Join(t.TempDir(), "plugin.sock")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- forward(ctx, socket, "tcp://"+port) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("forward ended with %v, expected no error after its context was done", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("forward did not end within 5 s after its context was done")
		}
	})
	return socket, port
}

// connect dials until somebody listens; deadline 5 s. Reads fail after 5 s, too.
func connect(t *testing.T, network, address string) net.Conn {
	t.Helper()
	var last error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		connection, err := net.Dial(network, address)
		if err == nil {
			t.Cleanup(func() { connection.Close() })
			connection.SetDeadline(time.Now().Add(5 * time.Second))
			return connection
		}
		last = err
	}
	t.Fatalf("nobody listens at %s: %v", address, last)
	return nil
}

func say(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, len(text))
	if _, err := io.ReadFull(to, heard); err != nil {
		t.Fatal(err)
	}
	if string(heard) != text {
		t.Errorf("expected %q, found %q", text, heard)
	}
}

func TestConnectionsAreJoinedInOrder(t *testing.T) {
	socket, port := start(t)
	// The test's process connects first and waits, as the tests of DRA do.
	firstServer := connect(t, "tcp", port)
	firstClient := connect(t, "unix", socket)
	say(t, firstClient, firstServer, "register")
	say(t, firstServer, firstClient, "registered")
	secondServer := connect(t, "tcp", port)
	secondClient := connect(t, "unix", socket)
	say(t, secondClient, secondServer, "prepare")
	say(t, firstClient, firstServer, "watch")
}

func TestBothSidesEndTogether(t *testing.T) {
	socket, port := start(t)
	server, client := connect(t, "tcp", port), connect(t, "unix", socket)
	say(t, client, server, "hello")
	client.Close()
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("expected the end of the connection, found %v", err)
	}
}

func TestSocketOfAnEarlierProcessIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := listen("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
}

func TestAddressesAreChecked(t *testing.T) {
	if _, err := listen("udp://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "udp") {
		t.Errorf("expected an error that names the address, found %v", err)
	}
	if err := forward(context.Background(), "", "tcp://:1"); err == nil {
		t.Error("expected an error without --endpoint, found none")
	}
}
