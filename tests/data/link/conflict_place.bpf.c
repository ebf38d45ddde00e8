// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "shared.h"

extern const __u32 limit __ksym;

SEC("xdp")
int use(void *ctx)
{
	return (long)&limit;
}
