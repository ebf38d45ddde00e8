// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// XDP that redirects to another interface and to a CPU, and what runs there.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum { REDIRECTED, AT_DEVICE, AT_CPU };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

static __always_inline void add(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&seen, &what);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("xdp")
int to_device(struct xdp_md *ctx)
{
	add(REDIRECTED);
	return bpf_redirect_map(&devices, 0, 0);
}

SEC("xdp")
int to_cpu(struct xdp_md *ctx)
{
	add(REDIRECTED);
	return bpf_redirect_map(&cpus, 0, 0);
}

SEC("?xdp/devmap")
int at_device(struct xdp_md *ctx)
{
	add(AT_DEVICE);
	return XDP_PASS;
}

SEC("?xdp/cpumap")
int at_cpu(struct xdp_md *ctx)
{
	add(AT_CPU);
	return XDP_PASS;
}

SEC("?xdp.frags")
int whole(struct xdp_md *ctx)
{
	add(REDIRECTED);
	return XDP_PASS;
}
