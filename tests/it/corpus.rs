//! The corpora of `fuzz/`, replayed: unchanged, cut short everywhere, and with each byte changed once.

use std::path::{Path, PathBuf};

use transship::fuzzing::{TARGETS, Target};

/// Longer seeds are cut and changed only at this many places.
const PLACES: usize = 100;

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), std::fs::read(path).expect("a seed"))).collect()
}

fn replay(run: Target, seed: &[u8]) {
    run(seed);
    let step = seed.len() / PLACES + 1;
    for at in (0..seed.len()).step_by(step) {
        run(&seed[..at]);
        run(&seed[at..]);
        for byte in [0, b'"', b'\n', 0xff, !seed[at]] {
            let mut changed = seed.to_vec();
            changed[at] = byte;
            run(&changed);
        }
    }
}

#[test]
fn every_seed_of_every_target_holds() {
    for (name, run) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 3, "{name} has seeds");
        for (path, seed) in seeds {
            println!("{}", path.display());
            replay(*run, &seed);
        }
    }
}

#[test]
fn every_target_has_its_program() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        let program = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).expect("a program");
        assert!(program.contains(&format!("transship::fuzzing::{name}(")), "{program}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is in fuzz/Cargo.toml");
    }
}
