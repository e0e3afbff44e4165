//! The program by which the kernel answers each system call (seccomp(2)): a search for the call's number, then a look at an
//! argument where one decides.
//!
//! It is a balanced tree over ranges of numbers, for the kernel runs it for every number once when it is installed, and
//! later for each call whose arguments count.

use super::calls::{Answer, Calls, Check, Machine};

/// One instruction of the kernel's classic BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a condition holds.
    pub jump_true: u8,
    /// How many to skip when it does not.
    pub jump_false: u8,
    /// A number.
    pub value: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// CLONE_NEWTIME, which only unshare(2) takes: in the flags of clone(2) it would be a part of the signal's number, of which none
/// is so high.
const NEW_TIME: u32 = 0x80;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const NETLINK_ROUTE: u32 = 0;
const S_IFMT: u32 = 0o170_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;

/// The program for a machine.
pub fn program(machine: Machine, calls: &Calls) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD, ARCHITECTURE),
        Instruction { code: IF_EQUAL, jump_true: 1, jump_false: 0, value: machine.audit() },
        answer(Answer::Unknown),
        plain(LOAD, NUMBER),
    ];
    tree(&ranges(&machine.answers(calls)), &mut program);
    program
}

/// Where each range of numbers begins and how it is answered, all numbers covered.
fn ranges(answers: &[Answer]) -> Vec<(u32, Answer)> {
    let mut ranges: Vec<(u32, Answer)> = (0..).zip(answers.iter().copied().chain([Answer::Unknown])).collect();
    ranges.dedup_by_key(|(_, answer)| *answer);
    ranges
}

/// Adds the search among `ranges` to the program.
fn tree(ranges: &[(u32, Answer)], program: &mut Vec<Instruction>) {
    if let [(_, one)] = ranges {
        match one {
            Answer::Check(check) => program.extend(look(*check)),
            other => program.push(answer(*other)),
        }
        return;
    }
    let (below, from) = ranges.split_at(ranges.len() / 2);
    let condition = program.len();
    program.push(Instruction { code: IF_AT_LEAST, jump_true: 0, jump_false: 0, value: from[0].0 });
    tree(below, program);
    let length = program.len() - condition - 1;
    match u8::try_from(length) {
        Ok(length) => program[condition].jump_true = length,
        // Too far for a condition's jump.
        Err(_) => {
            program[condition].jump_false = 1;
            program.insert(condition + 1, plain(JUMP, u32::try_from(length).expect("a program is short")));
        }
    }
    tree(from, program);
}

/// Looks at an argument.
fn look(check: Check) -> Vec<Instruction> {
    let argument = |index: u8| plain(LOAD, ARGUMENTS + 8 * u32::from(index));
    // Each jumps to the last instruction or the one before it.
    match check {
        Check::NoNewNamespace => vec![
            argument(0),
            Instruction { code: IF_ANY_BIT, jump_true: 0, jump_false: 1, value: NEW_NAMESPACES | NEW_TIME },
            answer(Answer::Refuse),
            answer(Answer::Allow),
        ],
        Check::NoTerminalInput => one_of(argument(1), &[TIOCSTI, TIOCLINUX], Answer::Refuse, Answer::Allow),
        Check::NoDevice(index) => {
            let mut code = vec![argument(index)];
            code.extend(one_of(plain(AND, S_IFMT), &[S_IFCHR, S_IFBLK], Answer::Refuse, Answer::Allow));
            code
        }
        Check::NewKeyring => one_of(argument(0), &[KEYCTL_JOIN_SESSION_KEYRING], Answer::Allow, Answer::Refuse),
        Check::Family => {
            let mut code =
                vec![argument(0), Instruction { code: IF_EQUAL, jump_true: 0, jump_false: 4, value: AF_NETLINK }];
            code.extend(one_of(argument(2), &[NETLINK_ROUTE], Answer::Allow, Answer::Refuse));
            code.extend(one_of(argument(0), &[AF_UNIX, AF_INET, AF_INET6], Answer::Allow, Answer::Refuse));
            code
        }
    }
}

/// After `load`, `found` when the value is one of these, else `other`.
fn one_of(load: Instruction, values: &[u32], found: Answer, other: Answer) -> Vec<Instruction> {
    let mut code = vec![load];
    for (index, value) in values.iter().enumerate() {
        let rest = u8::try_from(values.len() - index).expect("a few values");
        code.push(Instruction { code: IF_EQUAL, jump_true: rest, jump_false: 0, value: *value });
    }
    code.extend([answer(other), answer(found)]);
    code
}

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, value }
}

fn answer(answer: Answer) -> Instruction {
    let value = match answer {
        Answer::Allow => ALLOW,
        Answer::Refuse => ERRNO | EPERM,
        Answer::Unknown | Answer::Check(_) => ERRNO | ENOSYS,
    };
    plain(RETURN, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel makes of a program: seccomp_run_filters() of kernel/seccomp.c, for the few instructions that there are.
    fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, value: k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    value = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => arguments[(offset - ARGUMENTS) as usize / 8] as u32,
                    };
                    continue;
                }
                AND => {
                    value &= k;
                    continue;
                }
                JUMP => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                IF_EQUAL => value == k,
                IF_AT_LEAST => value >= k,
                IF_ANY_BIT => value & k != 0,
                other => panic!("{other:#x} is no instruction of ours"),
            };
            at += usize::from(if holds { jump_true } else { jump_false });
        }
    }

    const REFUSED: u32 = ERRNO | EPERM;
    const MISSING: u32 = ERRNO | ENOSYS;

    #[test]
    fn every_number_has_the_table_s_answer() {
        let nested = Calls { nested: true, allow: ["bpf".to_owned(), "io_uring_setup".to_owned()].into() };
        for (machine, calls) in [Machine::X86_64, Machine::Aarch64]
            .into_iter()
            .flat_map(|machine| [Calls::default(), nested.clone()].map(|calls| (machine, calls)))
        {
            let program = program(machine, &calls);
            assert!(program.len() < 4096, "{} instructions are more than the kernel takes", program.len());
            let answers = machine.answers(&calls);
            for number in (0..2048).chain([0x3fff_ffff, u32::MAX]) {
                let got = run(&program, machine.audit(), number, [0; 6]);
                match answers.get(number as usize) {
                    Some(Answer::Allow) => assert_eq!(got, ALLOW, "{number}"),
                    Some(Answer::Refuse) => assert_eq!(got, REFUSED, "{number}"),
                    Some(Answer::Check(_)) => assert!([ALLOW, REFUSED].contains(&got), "{number}"),
                    Some(Answer::Unknown) | None => assert_eq!(got, MISSING, "{number}"),
                }
                // Another machine's, and x32's.
                assert_eq!(run(&program, 0x4000_0003, number, [0; 6]), MISSING);
                assert_eq!(run(&program, machine.audit(), number | 0x4000_0000, [0; 6]), MISSING);
            }
        }
    }

    #[test]
    fn arguments_decide_by_their_lower_half() {
        let machine = Machine::X86_64;
        let calls = Calls::default();
        let high = 0xdead_beef_0000_0000;
        let judge = |calls: &Calls, name: &str, arguments: [u64; 3]| {
            let program = program(machine, calls);
            let number = u32::try_from(machine.number(name).unwrap()).unwrap();
            let whole = [arguments[0], arguments[1], arguments[2], 0, 0, 0];
            let got = run(&program, machine.audit(), number, whole);
            assert_eq!(got, run(&program, machine.audit(), number, whole.map(|word| word | high)));
            got
        };
        for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(judge(&calls, "clone", [flag | 17, 0, 0]), REFUSED, "{flag:#x}");
            assert_eq!(judge(&calls, "unshare", [flag, 0, 0]), REFUSED, "{flag:#x}");
        }
        assert_eq!(judge(&calls, "unshare", [0x80, 0, 0]), REFUSED);
        // A thread, a fork, a vfork; what unshare(2) may still do: descriptors and the working directory of its own.
        for flags in [0x3d_0f00, 0x120_0011, 0x4111, 17] {
            assert_eq!(judge(&calls, "clone", [flags, 0, 0]), ALLOW, "{flags:#x}");
        }
        assert_eq!(judge(&calls, "unshare", [0x600, 0, 0]), ALLOW);
        for (request, expected) in [(0x5412, REFUSED), (0x541c, REFUSED), (0x5401, ALLOW), (0x5413, ALLOW), (0, ALLOW)]
        {
            assert_eq!(judge(&calls, "ioctl", [0, request, 0]), expected, "{request:#x}");
        }
        for call in ["socket", "socketpair"] {
            for family in 0..64 {
                let expected = if [1, 2, 10, 16].contains(&family) { ALLOW } else { REFUSED };
                assert_eq!(judge(&calls, call, [family, 1, 0]), expected, "{family}");
            }
            for protocol in 1..32 {
                assert_eq!(judge(&calls, call, [16, 3, protocol]), REFUSED, "{protocol}");
                assert_eq!(judge(&calls, call, [2, 1, protocol]), ALLOW, "{protocol}");
            }
        }
        for (mode, expected) in
            [(0o20_000, REFUSED), (0o60_644, REFUSED), (0o10_644, ALLOW), (0o100_644, ALLOW), (0, ALLOW)]
        {
            assert_eq!(judge(&calls, "mknod", [0, mode, 0]), expected, "{mode:o}");
            assert_eq!(judge(&calls, "mknodat", [0, 0, mode]), expected, "{mode:o}");
        }
        let nested = Calls { nested: true, ..Calls::default() };
        assert_eq!(judge(&nested, "clone", [0x1000_0011, 0, 0]), ALLOW);
        assert_eq!((judge(&nested, "keyctl", [1, 0, 0]), judge(&nested, "keyctl", [0, 0, 0])), (ALLOW, REFUSED));
        assert_eq!(judge(&calls, "keyctl", [1, 0, 0]), REFUSED);
    }
}
