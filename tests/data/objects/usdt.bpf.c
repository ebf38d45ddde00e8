// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Static probes: arguments and cookie by libbpf's header, as a user of it writes them.
// build: -D__TARGET_ARCH_x86
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include <bpf/usdt.bpf.h>

char _license[] SEC("license") = "GPL";

// What the last run saw.
struct seen {
	__u64 hits;
	__s64 cookie;
	__s64 count;
	__s64 args[12];
	__s64 errors[12];
} seen;

__u32 only_pid;

static int look(struct pt_regs *ctx)
{
	if (only_pid && bpf_get_current_pid_tgid() >> 32 != only_pid)
		return 0;
	seen.cookie = bpf_usdt_cookie(ctx);
	seen.count = bpf_usdt_arg_cnt(ctx);
	for (int i = 0; i < 12; i++) {
		long value = 0;
		seen.errors[i] = bpf_usdt_arg(ctx, i, &value);
		seen.args[i] = value;
	}
	__sync_fetch_and_add(&seen.hits, 1);
	return 0;
}

SEC("usdt//proc/self/exe:skep_test:args")
int args(struct pt_regs *ctx)
{
	return look(ctx);
}

SEC("usdt")
int anywhere(struct pt_regs *ctx)
{
	return look(ctx);
}
