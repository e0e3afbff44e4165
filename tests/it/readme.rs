//! What the documents show is run.
//!
//! In `README.md` and `docs/*.md`
//! - a block ```` ```sh ```` is a script: the blocks of one document run one after another, each by `sh -eu`, in a fresh
//!   copy of `examples/`, with `sbx` on PATH;
//! - a block ```` ```sh ci ```` is run by `.ci/run`, word for word, on the checkout;
//! - a block ```` ```toml ```` is a whole `sandbox.toml`, which `sbx check` accepts;
//! - every other block (```` ```text ````) is only shown.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Project, copy_program, root, sbx};

/// A fenced block: what its fence says, and its text.
struct Block {
    info: String,
    text: String,
    line: usize,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in document.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => open = Some(Block { info: info.to_owned(), text: String::new(), line: index + 1 }),
            (Some(_), Some("")) => found.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

pub(crate) fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs")).into_iter().flatten() {
        found.push(entry.expect("an entry").path());
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    found
}

fn name(document: &Path) -> String {
    document.strip_prefix(root()).expect("below the checkout").display().to_string()
}

#[test]
fn every_block_says_what_it_is() {
    let known = ["sh", "sh ci", "toml", "text", "rust"];
    for document in documents() {
        for block in blocks(&fs::read_to_string(&document).expect("a document")) {
            assert!(known.contains(&block.info.as_str()), "{}:{}: `{}`", name(&document), block.line, block.info);
        }
    }
}

#[test]
fn commands_of_the_documents_run() {
    need!(Sandbox);
    need!(Compiler);
    let mut count = 0;
    for document in documents() {
        let project = Project::bare();
        let copied = project.command("cp").args(["-r"]).args([root().join("examples"), project.path("examples")]);
        copied.ok();
        let bin = project.beside("bin");
        fs::create_dir(&bin).expect("a directory");
        copy_program(sbx(), bin.join("sbx"));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        for block in blocks(&fs::read_to_string(&document).expect("a document")) {
            if block.info == "sh" {
                let run = project.command("sh").args(["-euc", &block.text]).env("PATH", &path);
                let ended = run.end();
                assert_eq!(ended.code, 0, "{}:{}: {ended:?}", name(&document), block.line);
                count += 1;
            }
        }
    }
    assert!(count > 0, "no document has a command");
}

#[test]
fn configurations_of_the_documents_are_valid() {
    let mut count = 0;
    for document in documents() {
        for block in blocks(&fs::read_to_string(&document).expect("a document")) {
            if block.info == "toml" {
                let ended = Project::new().config(&block.text).sbx(["check"]).end();
                assert_eq!(ended.code, 0, "{}:{}: {ended:?}", name(&document), block.line);
                count += 1;
            }
        }
    }
    assert!(count > 0, "no document has a configuration");
}

#[test]
fn the_readme_has_its_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let commands: Vec<_> = blocks(&readme).into_iter().filter(|block| block.info == "sh ci").collect();
    assert_eq!(commands.len(), 2, "one that builds and runs an example, one that passes all tests");
}

#[test]
fn every_known_failure_names_tests_that_there_are() {
    let text = fs::read_to_string(root().join("docs/SECURITY.md")).expect("docs/SECURITY.md");
    let mut next = 1;
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, tests, result, _] = cells[..] else { continue };
        if number.parse() != Ok(next) {
            continue;
        }
        next += 1;
        assert!(!result.is_empty() && tests.contains("::"), "{line}");
        for name in tests.split('`').filter(|name| name.contains("::")) {
            let (module, test) = name.split_once("::").expect("a module and a test");
            let source = fs::read_to_string(root().join(format!("tests/it/{module}.rs"))).expect("the module's source");
            assert!(source.contains(&format!("#[test]\nfn {test}()")), "{name} is no test");
        }
    }
    assert_eq!(next, 40, "every row has its test");
}
