// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "shared.h"

extern __u64 limit;

SEC("xdp")
int use(void *ctx)
{
	return limit;
}
