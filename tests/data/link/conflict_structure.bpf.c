// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#define settings other_settings
#include "shared.h"
#undef settings

struct settings {
	struct step *step;
	__u32 factor;
};
extern const struct settings settings;

SEC("xdp")
int use(void *ctx)
{
	return settings.factor;
}
