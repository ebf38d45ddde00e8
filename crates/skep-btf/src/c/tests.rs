use super::*;
use crate::{Array, Builder, Encoding, Enumerator, Member, Param, TypeId, TypeTag};

fn member(name: &str, ty: TypeId, bit_offset: u32) -> Member<'_> {
    Member { name, ty, bit_offset, bitfield_size: 0 }
}

fn bits(name: &str, ty: TypeId, bit_offset: u32, bitfield_size: u8) -> Member<'_> {
    Member { name, ty, bit_offset, bitfield_size }
}

fn value(name: &str, value: u64) -> Enumerator<'_> {
    Enumerator { name, value, signed: false }
}

/// The header of what `build` adds, without the lines that every header has.
fn text(build: impl FnOnce(&mut Builder)) -> String {
    let mut b = Builder::new();
    build(&mut b);
    let header = header(&b.finish().unwrap());
    let body = header.as_str().strip_prefix(PROLOGUE).unwrap();
    body.strip_suffix(EPILOGUE).unwrap().to_owned()
}

#[test]
fn a_type_comes_after_what_it_needs() {
    let got = text(|b| {
        // 1 node, 2 int, 3 pointer to node, 4 leaf, 5 leaf_t, 6 pointer to later, 7 later
        let (int, ptr, leaf_t, later) = (TypeId(2), TypeId(3), TypeId(5), TypeId(6));
        let members =
            [member("next", ptr, 0), member("leaf", leaf_t, 64), member("up", later, 128)];
        b.structure("node", 24, &members);
        b.int("int", 4, Encoding::SIGNED);
        b.ptr(TypeId(1));
        b.structure("leaf", 4, &[member("x", int, 0)]);
        b.typedef("leaf_t", TypeId(4));
        b.ptr(TypeId(7));
        b.structure("later", 8, &[member("x", ptr, 0)]);
    });
    assert_eq!(
        got,
        "\
struct node;

struct leaf;

typedef struct leaf leaf_t;

struct leaf {
\tint x;
};

struct later;

struct node {
\tstruct node *next;
\tleaf_t leaf;
\tstruct later *up;
};

struct later {
\tstruct node *x;
};

"
    );
}

#[test]
fn declarators_nest_as_c_wants() {
    let got = text(|b| {
        let int = b.int("int", 4, Encoding::SIGNED);
        let chr = b.int("char", 1, Encoding::SIGNED);
        let const_char = b.constant(chr);
        let ptr = b.ptr(const_char);
        let const_ptr = b.constant(ptr);
        let array = b.array(Array { element: const_ptr, index: int, len: 4 });
        b.typedef("names", array);
        let array_ptr = b.ptr(array);
        b.typedef("names_ptr", array_ptr);
        let params = [
            Param { name: "a", ty: ptr },
            Param { name: "", ty: array_ptr },
            Param { name: "", ty: TypeId::VOID },
        ];
        let proto = b.func_proto(array_ptr, &params);
        let func = b.ptr(proto);
        b.typedef("callback", func);
        let table = b.array(Array { element: func, index: int, len: 2 });
        let matrix = b.array(Array { element: table, index: int, len: 3 });
        let volatile = b.volatile(matrix);
        b.typedef("tables", volatile);
        let none = b.func_proto(TypeId::VOID, &[]);
        b.typedef("nothing", none);
        let user = b.type_tag("user", TypeTag { ty: int, attribute: false });
        let user = b.ptr(user);
        let user = b.restrict(user);
        b.typedef("user_int", user);
    });
    assert_eq!(
        got,
        "\
typedef const char *const names[4];

typedef const char *const (*names_ptr)[4];

typedef const char *const (*(*callback)(const char *, const char *const (*)[4], ...))[4];

typedef const char *const (*(*volatile tables[3][2])(const char *, const char *const (*)[4], ...))[4];

typedef void nothing(void);

typedef int *restrict user_int;

"
    );
}

#[test]
fn layouts_are_forced_where_c_would_choose_another() {
    let got = text(|b| {
        let int = b.int("int", 4, Encoding::SIGNED);
        let long = b.int("long int", 8, Encoding::SIGNED);
        let chr = b.int("char", 1, Encoding::SIGNED);
        b.structure("packed", 9, &[member("c", chr, 0), member("l", long, 8)]);
        b.structure("gaps", 32, &[member("c", chr, 0), member("i", int, 64), member("j", int, 96)]);
        b.structure(
            "fields",
            8,
            &[bits("a", int, 0, 3), bits("b", int, 8, 4), bits("c", int, 32, 32)],
        );
        b.structure("straddling", 5, &[bits("a", int, 0, 30), bits("b", int, 30, 4)]);
        b.structure("far", 4096, &[member("i", int, 0), member("j", int, 30000)]);
        b.union("wide", 16, &[member("c", chr, 0)]);
        let array = b.array(Array { element: int, index: int, len: 0 });
        b.structure("tail", 4, &[member("i", int, 0), member("rest", array, 32)]);
    });
    assert_eq!(
        got,
        "\
struct packed {
\tchar c;
\tlong int l;
} __attribute__((packed));

struct gaps {
\tchar c;
\tlong: 56;
\tint i;
\tint j;
\tlong: 64;
\tlong: 64;
};

struct fields {
\tint a: 3;
\tlong: 5;
\tint b: 4;
\tint c: 32;
};

struct straddling {
\tint a: 30;
\tint b: 4;
} __attribute__((packed));

struct far {
\tint i;
\tunsigned char __pad0[3746];
\tint j;
\tunsigned char __pad1[342];
} __attribute__((packed));

union wide {
\tchar c;
\tunsigned char __pad[16];
};

struct tail {
\tint i;
\tint rest[0];
};

"
    );
}

#[test]
fn names_are_given_once_and_anonymous_types_stand_where_they_are_used() {
    let got = text(|b| {
        let int = b.int("int", 4, Encoding::SIGNED);
        let choice = b.enumeration("", 4, &[value("A", 0), value("B", 0xffff_ffff)]);
        b.structure("s", 8, &[member("first", choice, 0), member("second", choice, 32)]);
        b.structure("s", 4, &[member("register", int, 0)]);
        b.enumeration("", 4, &[value("A", 7)]);
        b.enumeration("tiny", 1, &[value("T", 1)]);
        b.enumeration("huge", 8, &[value("H", 1 << 63)]);
        b.enumeration("unknown", 4, &[]);
        let inner = b.union("", 4, &[member("x", int, 0), member("y", int, 0)]);
        b.structure("outer", 4, &[member("", inner, 0)]);
        b.typedef("alias", inner);
        b.forward("s", false);
        b.forward("elsewhere", true);
        let odd = b.int("usize", 8, Encoding::UNSIGNED);
        b.typedef("core::Odd<'_>", odd);
    });
    assert_eq!(
        got,
        "\
struct s {
\tenum {
\t\tA = 0,
\t\tB = 4294967295,
\t} first;
\tenum {
\t\tA___2 = 0,
\t\tB___2 = 4294967295,
\t} second;
};

struct s___2 {
\tint register_;
};

enum {
\tA___3 = 7,
};

enum tiny {
\tT = 1,
} __attribute__((mode(byte)));

enum huge {
\tH = 9223372036854775808ULL,
};

enum unknown;

struct outer {
\tunion {
\t\tint x;
\t\tint y;
\t};
};

typedef union {
\tint x;
\tint y;
} alias;

struct s;

union elsewhere;

typedef unsigned long long core__Odd____;

"
    );
}

#[test]
fn what_c_cannot_say_is_a_comment() {
    let got = text(|b| {
        b.structure("overlap", 4, &[]);
        b.structure("of_function", 8, &[member("f", TypeId(3), 0)]);
        b.func("f", crate::Func { proto: TypeId::VOID, linkage: crate::Linkage::STATIC });
        let int = b.int("int", 4, Encoding::SIGNED);
        b.structure("twice", 4, &[member("a", int, 0), member("b", int, 0)]);
    });
    assert_eq!(
        got,
        "\
struct overlap {
\tlong: 32;
};

/* type [2] cannot be written in C */

/* type [5] cannot be written in C */

"
    );
}
