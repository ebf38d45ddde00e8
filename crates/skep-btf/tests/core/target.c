// What the relocations of local.c are resolved against: another layout of the same names.
typedef unsigned int u32;
typedef unsigned long u64;
typedef int (*callback)(int, void *);

enum color { BLUE = 5, RED = -7, GREEN = 9 };
enum wide { WIDE_B = 0x200000000, WIDE_A = 0x100000000 };
enum unsigned_top { TOP = 0xfffffff0u };

struct inner {
	int b;
	int a;
};

struct point {
	u64 y;
	u64 x;
};

struct outer {
	char before[12];
	union {
		struct {
			u64 pad;
			struct inner in;
			struct inner many[4];
		};
		u64 whole;
	};
	struct point *ptr;
	int matrix[3][5];
	short narrow;
	unsigned short unarrow;
	unsigned char level;
	_Bool flag;
	enum color tint;
	u64 wide;
	int changed_kind;
	struct point point;
	const volatile u32 typedefed;
	float real;
	struct inner tail[];
};

struct bits {
	u32 skip : 5;
	u32 one : 1;
	int three : 3;
	u64 forty : 40;
	u32 plain;
	enum color tint : 4;
};

// Two layouts of one name: ambiguous where they differ.
struct twice {
	int same;
	int differs;
	int only_here;
};

struct twice___other {
	int same;
	int other;
	int differs;
};

struct matched {
	struct matched *next;
	int value;
	enum color color;
	long extra;
};

struct unmatched {
	short value;
};

union either {
	int a;
	long b;
};

struct kernel_only {
	int x;
};

struct empty {};

struct bits v1;
struct twice v2;
struct twice___other v3;
struct matched v4;
struct unmatched v5;
union either v6;
struct kernel_only v7;
enum color v8;
enum wide v9;
enum unsigned_top v10;
callback v11;
struct empty v12;
u64 v13;
struct outer v14;

// So that there is a BTF.ext, without CO-RE relocations.
int nothing(void)
{
	return 0;
}
