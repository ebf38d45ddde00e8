//! What older kernels have in place of what an object asks for.

use skep_isa::Slot;

const CALL: u8 = 0x85;

/// Helpers that read memory of the kernel or of user space apart (Linux 5.5), and the older one
/// that reads both.
const READS: &[(i32, i32)] = &[
    (112, 4),  // probe_read_user
    (113, 4),  // probe_read_kernel
    (114, 45), // probe_read_user_str
    (115, 45), // probe_read_kernel_str
];

/// The instructions with the older helpers, for a kernel whose log says that it does not know the
/// newer ones. One that knows them and forbids them has no older ones to offer either.
pub(super) fn with_old_reads(insns: &[Slot], log: &str) -> Option<Vec<Slot>> {
    let unknown = |&&(new, _): &&(i32, i32)| log.contains(&format!("invalid func unknown#{new}"));
    READS.iter().find(unknown)?;
    let old = |slot: &Slot| {
        let row = READS.iter().find(|(new, _)| *new == slot.imm);
        match row.filter(|_| slot.code == CALL && slot.src == 0) {
            Some(&(_, old)) => Slot { imm: old, ..*slot },
            None => *slot,
        }
    };
    Some(insns.iter().map(old).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_become_the_older_one_where_the_newer_are_unknown() {
        let slot = |code, src, imm| Slot { code, dst: 0, src, off: 0, imm };
        let insns = [
            slot(CALL, 0, 113),
            slot(CALL, 0, 114),
            slot(CALL, 1, 113), // a function of the program
            slot(CALL, 0, 14),
            slot(0xb7, 0, 113),
        ];
        let log = "3: (85) call unknown#113\ninvalid func unknown#113\nprocessed 4 insns\n";
        let old: Vec<i32> = with_old_reads(&insns, log).unwrap().iter().map(|s| s.imm).collect();
        assert_eq!(old, [4, 45, 113, 14, 113]);
        for log in ["", "unknown func bpf_probe_read_kernel#113", "invalid func unknown#200"] {
            assert_eq!(with_old_reads(&insns, log), None, "{log}");
        }
    }
}
