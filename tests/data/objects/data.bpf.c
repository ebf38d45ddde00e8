// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Global data: every section, custom names, static variables, strings, hidden ones.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct point {
	int x;
	int y;
};

__u64 counter;
__u32 limit = 100;
const volatile __u16 port = 443;
const volatile struct point points[3] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };
__u8 custom SEC(".data.custom") = 9;
const volatile __u64 fixed SEC(".rodata.fixed") = 0x1122334455667788;
__u32 scratch[4] SEC(".bss.scratch");
__u64 concealed SEC(".data.concealed") __hidden = 3;

static __u32 private_one = 11;
static volatile __u32 private_two = 22;
static volatile __u64 private_zero;

SEC("tc")
int use(struct __sk_buff *skb)
{
	static const char format[] = "packet %d";

	counter++;
	private_zero += skb->len;
	scratch[skb->len & 3] += custom;
	concealed++;
	private_two += private_one;
	bpf_trace_printk(format, sizeof(format), points[2].y);
	if (bpf_strncmp("short", 6, "long") == 0)
		return 7;
	return port == 443 && fixed > limit && private_two;
}
