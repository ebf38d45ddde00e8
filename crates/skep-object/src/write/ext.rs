//! Writing `.BTF.ext`.

use skep_btf::Builder;
use skep_btf::ext::{CoreRelo, ExtSection, FuncInfo, LineInfo};

const HEADER: u32 = 32;

/// The bytes of the section; empty when there is nothing to say.
pub(super) fn bytes(sections: &[ExtSection], types: &mut Builder) -> Vec<u8> {
    let funcs = part(
        types,
        sections,
        8,
        |s| &s.func_info,
        |r: &FuncInfo, out| {
            out.extend([r.insn_off, r.type_id.0]);
        },
    );
    let lines = part(
        types,
        sections,
        16,
        |s| &s.line_info,
        |r: &LineInfo, out| {
            out.extend([r.insn_off, r.file_name_off, r.line_off, r.line_col]);
        },
    );
    let relos = part(
        types,
        sections,
        16,
        |s| &s.core_relos,
        |r: &CoreRelo, out| {
            out.extend([r.insn_off, r.type_id.0, r.access_off, r.kind]);
        },
    );
    if funcs.is_empty() && lines.is_empty() && relos.is_empty() {
        return Vec::new();
    }
    let mut words = vec![0x0001_eb9f, HEADER];
    let mut offset = 0;
    for part in [&funcs, &lines, &relos] {
        let len = u32::try_from(part.len() * 4).expect("smaller than the instructions it is about");
        words.extend([offset, len]);
        offset += len;
    }
    words.extend(funcs);
    words.extend(lines);
    words.extend(relos);
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// One of the three parts: record size, then per section its name, a count, the records.
fn part<'s, R: 's>(
    types: &mut Builder,
    sections: &'s [ExtSection],
    record_size: u32,
    records: impl Fn(&'s ExtSection) -> &'s Vec<R>,
    write: impl Fn(&R, &mut Vec<u32>),
) -> Vec<u32> {
    let mut out = Vec::new();
    for section in sections {
        let records = records(section);
        if records.is_empty() {
            continue;
        }
        if out.is_empty() {
            out.push(record_size);
        }
        let count = u32::try_from(records.len()).expect("at most one per instruction");
        out.extend([types.string(&section.name), count]);
        for record in records {
            write(record, &mut out);
        }
    }
    out
}
