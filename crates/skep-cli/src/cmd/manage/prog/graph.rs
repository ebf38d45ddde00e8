//! The control flow of a program as a graph in DOT.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use skep::isa::Slot;

const LDDW: u8 = 0x18;
/// Classes of jumps on 64 and 32 bits.
const JMP: u8 = 5;
const JMP32: u8 = 6;
/// Operations of jumps.
const JA: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// Source of a call to a function of the program.
const LOCAL: u8 = 1;

/// How control leaves an instruction.
enum Leaves {
    /// To the next one.
    Next,
    /// To another one only.
    Jump(usize),
    /// To another one or to the next.
    Branch(usize),
    /// Nowhere.
    End,
}

/// Blocks and edges of all functions.
pub(super) struct Graph {
    /// First slots of functions.
    functions: BTreeSet<usize>,
    /// First slot of each block, and the instructions in it.
    blocks: BTreeMap<usize, Vec<usize>>,
    edges: Vec<(usize, usize)>,
}

fn leaves(slot: Slot, pc: usize) -> Leaves {
    let class = slot.code & 7;
    if class != JMP && class != JMP32 {
        return Leaves::Next;
    }
    let far = class == JMP32 && slot.code & 0xf0 == JA;
    let distance = if far { i64::from(slot.imm) } else { i64::from(slot.off) };
    let target = i64::try_from(pc).ok().and_then(|pc| usize::try_from(pc + 1 + distance).ok());
    match (slot.code & 0xf0, target) {
        (CALL, _) => Leaves::Next,
        (EXIT, _) | (_, None) => Leaves::End,
        (JA, Some(target)) => Leaves::Jump(target),
        (_, Some(target)) => Leaves::Branch(target),
    }
}

/// The function of the program that a call goes to.
fn called(slot: Slot, pc: usize) -> Option<usize> {
    if slot.code != JMP | CALL || slot.src != LOCAL {
        return None;
    }
    // The kernel's compiler moves the target to the offset.
    let distance = if slot.off == 0 { i64::from(slot.imm) } else { i64::from(slot.off) };
    usize::try_from(i64::try_from(pc).ok()? + 1 + distance).ok()
}

impl Graph {
    pub(super) fn new(slots: &[Slot]) -> Self {
        let mut pcs = Vec::new();
        let mut pc = 0;
        while let Some(slot) = slots.get(pc) {
            pcs.push((pc, *slot));
            pc += if slot.code == LDDW { 2 } else { 1 };
        }
        let mut functions = BTreeSet::from([0]);
        functions.extend(pcs.iter().filter_map(|&(pc, slot)| called(slot, pc)));
        let mut starts = functions.clone();
        for &(pc, slot) in &pcs {
            match leaves(slot, pc) {
                Leaves::Next => {}
                Leaves::Jump(target) | Leaves::Branch(target) => {
                    starts.extend([target, pc + 1]);
                }
                Leaves::End => {
                    starts.insert(pc + 1);
                }
            }
        }
        let mut blocks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut edges = Vec::new();
        let mut start = 0;
        let next = |n: usize| pcs.get(n + 1).map(|&(pc, _)| pc);
        for (n, &(pc, slot)) in pcs.iter().enumerate() {
            if starts.contains(&pc) {
                start = pc;
            }
            blocks.entry(start).or_default().push(pc);
            let last = next(n).is_none_or(|next| starts.contains(&next));
            let falls = next(n).filter(|next| !functions.contains(next));
            match leaves(slot, pc) {
                Leaves::Next if last => edges.extend(falls.map(|to| (start, to))),
                Leaves::Next | Leaves::End => {}
                Leaves::Jump(to) => edges.push((start, to)),
                Leaves::Branch(to) => {
                    edges.push((start, to));
                    edges.extend(falls.map(|to| (start, to)));
                }
            }
        }
        Self { functions, blocks, edges }
    }

    /// The graph as text. `name` names the function that begins at a slot, `line` is an
    /// instruction.
    pub(super) fn dot(
        &self,
        name: impl Fn(usize) -> String,
        line: impl Fn(usize) -> String,
    ) -> String {
        let mut text = String::from("digraph program {\n\tnode [shape=box, fontname=monospace];\n");
        for (n, &first) in self.functions.iter().enumerate() {
            let end = self.functions.range(first + 1..).next().copied().unwrap_or(usize::MAX);
            // Writing to a String cannot fail.
            _ = writeln!(
                text,
                "\tsubgraph cluster_{n} {{\n\t\tlabel=\"{}\";",
                escape(&name(first))
            );
            for (start, pcs) in self.blocks.range(first..end) {
                let lines: String = pcs.iter().map(|&pc| escape(&line(pc)) + "\\l").collect();
                _ = writeln!(text, "\t\tb{start} [label=\"{lines}\"];");
            }
            text.push_str("\t}\n");
        }
        for (from, to) in &self.edges {
            _ = writeln!(text, "\tb{from} -> b{to};");
        }
        text.push_str("}\n");
        text
    }
}

/// Text inside quotes.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(text: &str) -> String {
        let slots = skep::isa::asm::assemble(text).unwrap();
        Graph::new(&slots).dot(|pc| format!("f{pc}"), |pc| format!("{pc}"))
    }

    #[test]
    fn a_branch_has_two_edges_and_a_loop_one_back() {
        let text = graph("r0 = 0\nagain:\nr0 += 1\nif r0 < 5 goto again\nexit");
        for want in ["b0 [label=\"0\\l\"]", "b0 -> b1;", "b1 -> b1;", "b1 -> b3;"] {
            assert!(text.contains(want), "{want}: {text}");
        }
        assert!(!text.contains("b3 ->"), "{text}");
    }

    #[test]
    fn wide_loads_are_one_instruction() {
        let text = graph("r1 = 0x1122334455667788 ll\nr0 = 0\nexit");
        assert!(text.contains("b0 [label=\"0\\l2\\l3\\l\"]"), "{text}");
    }

    #[test]
    fn bytes_that_are_no_program_make_a_graph_all_the_same() {
        let odd = [LDDW, 0x05, 0x06, 0x95, 0x85, 0xff, 0x1d];
        for code in odd {
            for (off, imm) in [(-1, -1), (i16::MIN, i32::MIN), (i16::MAX, i32::MAX)] {
                let slot = Slot { code, dst: 15, src: 1, off, imm };
                let text = Graph::new(&[slot]).dot(|_| "\"".into(), |_| "\\".into());
                assert!(text.ends_with("}\n"));
            }
        }
    }
}
