// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// CO-RE: every kind of relocation, on every form of instruction, against types that
// core_target.bpf.c has changed.
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char _license[] SEC("license") = "GPL";

enum color {
	RED = 1,
	GREEN = 2,
	GONE = 3,
};

enum wide {
	HUGE = 0x100000000ULL,
};

struct moved {
	int first;
	long last;
} __attribute__((preserve_access_index));

struct resized {
	unsigned int number;
	int sign;
	void *pointer;
} __attribute__((preserve_access_index));

struct bits {
	unsigned int low : 3;
	unsigned int high : 7;
} __attribute__((preserve_access_index));

struct nested {
	struct {
		int array[4];
	} inner;
	int missing;
} __attribute__((preserve_access_index));

struct flavored___old {
	int old_name;
} __attribute__((preserve_access_index));

struct flavored___new {
	int new_name;
} __attribute__((preserve_access_index));

struct absent {
	int x;
};

typedef int number_t;

__u64 out[32];

SEC("raw_tp/fields")
int fields(struct moved *m)
{
	out[0] = m->first;
	out[1] = m->last;
	m->last = 7;
	out[2] = bpf_core_field_offset(m->last);
	out[3] = bpf_core_field_size(m->last);
	out[4] = bpf_core_field_exists(m->last);
	return 0;
}

SEC("raw_tp/sizes")
int sizes(struct resized *r)
{
	out[0] = r->number;
	out[1] = (__u64)r->pointer;
	out[2] = bpf_core_field_size(r->number);
	return 0;
}

SEC("?raw_tp/unsafe")
int unsafe(struct resized *r)
{
	return r->sign;
}

SEC("raw_tp/bitfields")
int bitfields(struct bits *b)
{
	out[0] = BPF_CORE_READ_BITFIELD(b, high);
	out[1] = BPF_CORE_READ_BITFIELD_PROBED(b, low);
	return 0;
}

SEC("raw_tp/nesting")
int nesting(struct nested *n)
{
	out[0] = n->inner.array[2];
	if (bpf_core_field_exists(n->missing))
		out[1] = n->missing;
	return 0;
}

SEC("raw_tp/flavors")
int flavors(void *p)
{
	struct flavored___new *new = p;
	struct flavored___old *old = p;

	if (bpf_core_field_exists(new->new_name))
		out[0] = new->new_name;
	else
		out[0] = old->old_name;
	return 0;
}

SEC("raw_tp/types")
int types(void *ctx)
{
	out[0] = bpf_core_type_exists(struct moved);
	out[1] = bpf_core_type_exists(struct absent);
	out[2] = bpf_core_type_size(struct moved);
	out[3] = bpf_core_type_size(struct absent);
	out[4] = bpf_core_type_id_local(struct absent);
	out[5] = bpf_core_type_id_kernel(struct moved);
	out[6] = bpf_core_type_exists(number_t);
	out[7] = bpf_core_type_matches(struct resized);
	return 0;
}

SEC("raw_tp/enums")
int enums(void *ctx)
{
	out[0] = bpf_core_enum_value(enum color, GREEN);
	out[1] = bpf_core_enum_value_exists(enum color, GONE);
	out[2] = bpf_core_enum_value(enum wide, HUGE);
	return 0;
}

SEC("?raw_tp/poisoned")
int poisoned(struct nested *n)
{
	return n->missing;
}
