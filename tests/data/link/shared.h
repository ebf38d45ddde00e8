// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// What shared_main.bpf.c and shared_lib.bpf.c know of each other.
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct tally {
	__u64 packets;
	__u64 bytes;
};

// Only declared in files that do not need more: a forward declaration in their types.
struct step;

struct settings {
	__u32 factor;
	struct step *step;
};

struct counts {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct tally);
};
