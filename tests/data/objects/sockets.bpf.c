// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Sockets in maps: from sock_ops into a hash, messages and streams redirected between them, the
// socket of a reuseport group chosen.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum { OPERATIONS, MESSAGES, PARSED, VERDICTS, CHOSEN, MIGRATED };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} by_port SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} pair SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} group SEC(".maps");

// Which of the group gets connections.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} choice SEC(".maps");

static __always_inline void add(__u32 what, __u64 bits)
{
	__u64 *value = bpf_map_lookup_elem(&seen, &what);

	if (value && what == OPERATIONS)
		*value |= bits;
	else if (value)
		__sync_fetch_and_add(value, bits);
}

SEC("sockops")
int established(struct bpf_sock_ops *ops)
{
	__u32 port = ops->local_port;

	add(OPERATIONS, 1ull << (ops->op & 31));
	if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
	    ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
		bpf_sock_hash_update(ops, &by_port, &port, BPF_ANY);
	}
	return 1;
}

SEC("sk_msg")
int to_peer(struct sk_msg_md *msg)
{
	__u32 port = bpf_ntohl(msg->remote_port);

	add(MESSAGES, 1);
	return bpf_msg_redirect_hash(msg, &by_port, &port, BPF_F_INGRESS);
}

SEC("sk_msg")
int swallow(struct sk_msg_md *msg)
{
	return SK_DROP;
}

SEC("sk_skb/stream_parser")
int parse(struct __sk_buff *skb)
{
	add(PARSED, 1);
	return skb->len;
}

SEC("sk_skb/stream_verdict")
int splice(struct __sk_buff *skb)
{
	add(VERDICTS, 1);
	return bpf_sk_redirect_map(skb, &pair, 1, 0);
}

SEC("?sk_skb/verdict")
int splice_whole(struct __sk_buff *skb)
{
	add(VERDICTS, 1);
	return bpf_sk_redirect_map(skb, &pair, 1, 0);
}

SEC("?sk_reuseport")
int choose(struct sk_reuseport_md *md)
{
	__u32 zero = 0;
	__u32 *index = bpf_map_lookup_elem(&choice, &zero);

	add(CHOSEN, 1);
	if (index)
		bpf_sk_select_reuseport(md, &group, index, 0);
	return SK_PASS;
}

SEC("?sk_reuseport/migrate")
int migrate(struct sk_reuseport_md *md)
{
	__u32 index = 0;

	add(CHOSEN, 1);
	if (md->migrating_sk) {
		index = 1;
		add(MIGRATED, 1);
	}
	bpf_sk_select_reuseport(md, &group, &index, 0);
	return SK_PASS;
}
