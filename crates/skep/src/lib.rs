//! Load and run eBPF on the Linux kernel or in user space.
