//! One file per command.

pub mod asm;
pub mod btf;
pub mod cbpf;
pub mod completions;
pub mod disasm;
pub mod doctor;
pub mod generate;
pub mod inspect;
pub mod load;
pub mod man;
pub mod manage;
pub mod plugin;
pub mod run;
pub mod test_run;
pub mod top;
pub mod tree;
