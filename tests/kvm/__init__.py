"""The lab on KVM, proven where there is none: inside a guest whose CPU, with AMD's virtualisation, QEMU emulates."""
