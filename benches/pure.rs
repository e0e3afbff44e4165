//! `cargo bench --bench pure [-- FILTER]`: what is computed without the kernel, by criterion.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sbx::config::{self, model::Pattern};
use sbx::digest::Digest;
use sbx::inputs::{Entry, Manifest, Node, Patterns, path_order};
use sbx::path::RelPath;

/// How many files the trees have.
const SIZES: [usize; 2] = [1_000, 10_000];

/// So many files, a hundred in each directory.
fn tree(files: usize) -> Manifest {
    let entry = |index: usize| Entry {
        path: format!("d{:04}/file-{:02}.c", index / 100, index % 100),
        node: Node::File { digest: Digest::of(&index.to_le_bytes()), executable: index.is_multiple_of(7) },
    };
    Manifest { entries: (0..files).map(entry).collect() }
}

fn trees<T>(criterion: &mut Criterion, name: &str, work: impl Fn(&Manifest) -> T) {
    let mut group = criterion.benchmark_group(name);
    for files in SIZES {
        let tree = tree(files);
        group.throughput(Throughput::Elements(files as u64));
        group.bench_with_input(BenchmarkId::from_parameter(files), &tree, |bencher, tree| bencher.iter(|| work(tree)));
    }
}

/// The Merkle tree; the manifest as the store keeps it; what tells two of them apart; the order of a walk.
fn manifests(criterion: &mut Criterion) {
    trees(criterion, "merkle", Manifest::root_digest);
    trees(criterion, "encode", Manifest::encode);
    trees(criterion, "compare", |tree| tree.unlike(tree).count());
    let mut group = criterion.benchmark_group("decode");
    for files in SIZES {
        let body = tree(files).encode();
        group.throughput(Throughput::Elements(files as u64));
        group.bench_with_input(BenchmarkId::from_parameter(files), &body, |bencher, body| {
            bencher.iter(|| Manifest::decode(body).expect("what was encoded"));
        });
    }
    drop(group);
    let mut group = criterion.benchmark_group("sort");
    for files in SIZES {
        // By their digests: far from any order.
        let mut paths: Vec<_> = tree(files).entries.into_iter().map(|entry| entry.path).collect();
        paths.sort_unstable_by_key(|path| Digest::of(path.as_bytes()).hash);
        group.throughput(Throughput::Elements(files as u64));
        group.bench_with_input(BenchmarkId::from_parameter(files), &paths, |bencher, paths| {
            let sort = |mut paths: Vec<String>| {
                paths.sort_by(|one, other| path_order(one, other));
                paths
            };
            bencher.iter_batched(|| paths.clone(), sort, criterion::BatchSize::LargeInput);
        });
    }
}

/// A whole configuration: the example, which shows every key.
fn configurations(criterion: &mut Criterion) {
    let text = include_str!("../sandbox.toml.example");
    criterion.bench_function("config", |bencher| {
        bencher.iter(|| config::parse(black_box(text), "sandbox.toml").expect("the example"));
    });
}

/// Which of the files are inputs.
fn patterns(criterion: &mut Criterion) {
    let pattern = |glob: &str, negated| Pattern { glob: RelPath::new(glob).expect("a relative path"), negated };
    let list =
        [("**/*.c", false), ("include/**", false), ("**/*.h", false), ("**/file-13.*", true), ("Makefile", false)];
    let patterns = Patterns::new(&list.map(|(glob, negated)| pattern(glob, negated))).expect("globs");
    trees(criterion, "match", |tree| {
        let mut hits = Vec::new();
        for entry in &tree.entries {
            black_box(patterns.verdict(entry.path.as_bytes(), &mut hits));
        }
    });
}

criterion_group!(pure, manifests, configurations, patterns);
criterion_main!(pure);
