// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// The types of core.bpf.c as another kernel might have them. Only its BTF is used.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum color {
	RED = 1,
	GREEN = 20,
};

enum wide {
	HUGE = 0x200000000ULL,
};

struct moved {
	long added;
	int first;
	int also_added;
	long gap[3];
	long last;
};

struct resized {
	unsigned long number;
	long sign;
	void *pointer;
};

struct bits {
	long before;
	unsigned int other : 5;
	unsigned int high : 9;
	unsigned int low : 2;
};

struct nested {
	int before;
	struct {
		int array[4];
	} inner;
};

struct flavored {
	long before;
	int new_name;
};

typedef int number_t;

struct {
	enum color color;
	enum wide wide;
	struct moved moved;
	struct resized resized;
	struct bits bits;
	struct nested nested;
	struct flavored flavored;
	number_t number;
} keep;

SEC("raw_tp/none")
int none(void *ctx)
{
	return keep.number;
}
