// One relocation after the other, of all kinds: each line of probe() is one.
typedef unsigned int u32;
typedef unsigned long u64;
typedef int (*callback)(int, void *);
typedef long (*other_callback)(int, void *, int);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum color { RED = 1, BLUE = 2, PURPLE = 3 };
enum wide { WIDE_A = 0x500000000, WIDE_B = 1, WIDE_C = 2 };
enum wide___flavor { WIDE_B___f = 3, WIDE_HUGE = 0x500000000 };
enum unsigned_top { TOP = 0xffffffffu };
enum nowhere { NO = 1 };

struct inner {
	int a;
	int b;
};

struct point___flavor {
	u64 x;
	u64 y;
};

struct point {
	u64 x;
	u64 y;
};

struct outer {
	u64 whole;
	struct inner in;
	struct inner many[2];
	struct point *ptr;
	int matrix[3][5];
	int narrow;
	unsigned int unarrow;
	unsigned char level;
	_Bool flag;
	enum color tint;
	u32 wide;
	struct point changed_kind;
	struct point point;
	u32 typedefed;
	double real;
	int missing;
	struct inner tail[];
};

struct bits {
	int three : 3;
	u32 one : 1;
	u64 forty : 40;
	u32 plain : 7;
	enum color tint : 4;
};

struct twice {
	int same;
	int differs;
	int only_here;
	int nowhere;
};

struct twice___unclear {
	int same;
	int differs;
};

struct matched {
	int value;
	struct matched *next;
	enum color___other { RED___x = 1 } color;
};

struct unmatched {
	int value;
};

union either {
	long b;
};

struct absent {
	int x;
};

struct empty {};

#pragma clang attribute pop

#define FIELD(expr, kind) take(__builtin_preserve_field_info(expr, kind))
#define ALL_OF(expr) do { \
	FIELD(expr, 0); FIELD(expr, 1); FIELD(expr, 2); FIELD(expr, 3); FIELD(expr, 4); FIELD(expr, 5); \
} while (0)
#define PLACE_OF(expr) do { FIELD(expr, 0); FIELD(expr, 1); FIELD(expr, 2); } while (0)
#define TYPE(type, kind) take(__builtin_preserve_type_info(*(type *)0, kind))
#define TYPES(type) do { \
	TYPE(type, 0); TYPE(type, 1); TYPE(type, 2); \
	take(__builtin_btf_type_id(*(type *)0, 0)); take(__builtin_btf_type_id(*(type *)0, 1)); \
} while (0)
#define ENUMVAL(type, value) do { \
	take(__builtin_preserve_enum_value(*(type *)value, 0)); \
	take(__builtin_preserve_enum_value(*(type *)value, 1)); \
} while (0)

volatile u64 sink;
static inline __attribute__((always_inline)) void take(u64 value)
{
	sink = value;
}

__attribute__((section("socket/fields"))) int fields(void *ctx)
{
	struct outer *o = ctx;
	struct bits *b = ctx;
	PLACE_OF(o->in);
	ALL_OF(o->in.b);
	ALL_OF(o->narrow);
	ALL_OF(o->unarrow);
	ALL_OF(o->level);
	ALL_OF(o->tint);
	ALL_OF(o->flag);
	ALL_OF(o->missing);
	PLACE_OF(o->changed_kind);
	ALL_OF(o->typedefed);
	ALL_OF(o->real);
	PLACE_OF(o->matrix);
	FIELD(o->tail, 0);
	FIELD(o->tail, 2);
	FIELD(o->many[1].a, 0);
	FIELD(o->many[1], 0);
	FIELD(o->many[1], 1);
	FIELD(o->matrix[2][4], 0);
	FIELD(o->tail[7].b, 0);
	FIELD(o[2].whole, 0);
	FIELD(o->ptr->y, 0);
	ALL_OF(b->three);
	ALL_OF(b->one);
	ALL_OF(b->forty);
	ALL_OF(b->plain);
	ALL_OF(b->tint);
	return 0;
}

__attribute__((section("socket/twice"))) int twice(void *ctx)
{
	struct twice *t = ctx;
	FIELD(t->same, 0);
	FIELD(t->same, 2);
	FIELD(t->nowhere, 2);
	FIELD(t->only_here, 0);
	// By now the other candidate is out.
	FIELD(t->differs, 0);
	return 0;
}

__attribute__((section("socket/unclear"))) int unclear(void *ctx)
{
	struct twice___unclear *t = ctx;
	FIELD(t->same, 0);
	FIELD(t->differs, 2);
	FIELD(t->differs, 0);
	return 0;
}

__attribute__((section("socket/types"))) int types(void *ctx)
{
	struct point___flavor *p = ctx;
	FIELD(p->x, 0);
	TYPES(struct outer);
	TYPES(struct point___flavor);
	TYPES(struct matched);
	TYPES(struct unmatched);
	TYPES(union either);
	TYPES(struct absent);
	TYPES(struct empty);
	TYPES(enum color);
	TYPES(enum nowhere);
	TYPES(u64);
	TYPES(callback);
	TYPES(other_callback);
	return 0;
}

__attribute__((section("socket/enums"))) int enums(void *ctx)
{
	ENUMVAL(enum color, RED);
	ENUMVAL(enum color, BLUE);
	ENUMVAL(enum color, PURPLE);
	ENUMVAL(enum wide, WIDE_A);
	ENUMVAL(enum wide, WIDE_C);
	ENUMVAL(enum wide___flavor, WIDE_B___f);
	ENUMVAL(enum nowhere, NO);
	return 0;
}

__attribute__((section("socket/loads"))) int loads(void *ctx)
{
	struct outer *o = ctx;
	sink = o->level;
	sink = o->unarrow;
	sink = o->wide;
	sink = o->narrow;
	sink = o->in.a;
	sink = (u64)o->ptr;
	sink = o->typedefed;
	return 0;
}

char _license[] __attribute__((section("license"))) = "GPL";
