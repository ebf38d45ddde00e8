// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* One program for each kind of link; none of them does anything. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define NOTHING(section, name, verdict) \
	SEC(section) int on_##name(void *ctx) { return verdict; }

NOTHING("tp_btf/sys_enter", tracing, 0)
NOTHING("raw_tp/sys_enter", raw_tracepoint, 0)
NOTHING("iter/task", iter, 0)
NOTHING("cgroup/sysctl", cgroup, 1)
NOTHING("sk_lookup", netns, 1)
NOTHING("xdp", xdp, 2)
NOTHING("tcx/ingress", tcx, -1)
NOTHING("netfilter", netfilter, 1)
NOTHING("uprobe.multi", uprobe_multi, 0)
NOTHING("uprobe", uprobe, 0)
NOTHING("tp/syscalls/sys_enter_getpgid", tracepoint, 0)
NOTHING("perf_event", clock, 0)
NOTHING("sk_msg", sockmap, 1)

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} sockets SEC(".maps");

char _license[] SEC("license") = "Dual BSD/GPL";
