// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A program that prints into its own streams (Linux 6.18), and one that prints into the trace. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int bpf_stream_vprintk_impl(int stream, const char *text, const void *args, __u32 len,
				   void *program) __ksym __weak;

SEC("syscall")
int speaks(void *ctx)
{
	__u64 answer = 42;

	if (!&bpf_stream_vprintk_impl)
		return 1;
	bpf_stream_vprintk_impl(2, "nothing is wrong\n", &answer, 0, 0);
	return bpf_stream_vprintk_impl(1, "the answer is %d\n", &answer, sizeof(answer), 0);
}

SEC("socket")
int traces(struct __sk_buff *skb)
{
	bpf_printk("skep prints %d", skb->len);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
