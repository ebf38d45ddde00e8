// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// A program for each kind of place, all optional: each counts its runs, and lets everything pass.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

__u64 connects, lookups, ticks, calls, frames, filtered, routed;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} squares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("?cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	__sync_fetch_and_add(&connects, 1);
	return 1;
}

SEC("?sk_lookup")
int look(struct bpf_sk_lookup *ctx)
{
	__sync_fetch_and_add(&lookups, 1);
	return SK_PASS;
}

SEC("?perf_event")
int tick(void *ctx)
{
	__sync_fetch_and_add(&ticks, 1);
	return 0;
}

// Its section does not say where.
SEC("?uprobe")
int call(void *ctx)
{
	__sync_fetch_and_add(&calls, 1);
	return 0;
}

SEC("?xdp")
int frame(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&frames, 1);
	return XDP_PASS;
}

// No rule has this name: only the user knows that it is for packets.
SEC("?custom")
int untyped(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&frames, 1);
	return XDP_PASS;
}

SEC("?netfilter")
int filter(void *ctx)
{
	__sync_fetch_and_add(&filtered, 1);
	return 1;
}

SEC("?lwt_xmit")
int route(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&routed, 1);
	return BPF_OK;
}

SEC("?sk_msg")
int message(struct sk_msg_md *msg)
{
	return SK_PASS;
}

struct arguments {
	__u32 answer;
};

SEC("?syscall")
int once(struct arguments *ctx)
{
	__u32 key = 2;
	__u64 value = 4;

	bpf_map_update_elem(&squares, &key, &value, BPF_ANY);
	return 7;
}

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct task_struct {
	int tgid;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

SEC("?iter/task")
int tasks(struct bpf_iter__task *ctx)
{
	static const char line[] = "task %d\n";
	struct task_struct *task = ctx->task;
	__u64 tgid;

	if (!task)
		return 0;
	tgid = task->tgid;
	bpf_seq_printf(ctx->meta->seq, line, sizeof(line), &tgid, sizeof(tgid));
	return 0;
}

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *key;
	void *value;
} __attribute__((preserve_access_index));

struct square {
	__u64 root;
	__u64 square;
};

const struct square *unused __attribute__((unused));

SEC("?iter/bpf_map_elem")
int elements(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key;
	__u64 *value = ctx->value;
	struct square square;

	if (!key || !value)
		return 0;
	square.root = *key;
	square.square = *value;
	bpf_seq_write(ctx->meta->seq, &square, sizeof(square));
	return 0;
}
