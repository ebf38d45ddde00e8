// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "shared.h"

extern int sort(struct tally *into, __u32 length);

SEC("xdp")
int use(void *ctx)
{
	return sort(0, 1);
}
