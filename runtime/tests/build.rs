//! `steer build` as a user meets it: what it refuses, and which files it leaves.
#![cfg(feature = "llvm")]

mod common;

use common::Folder;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Output};
use steer_kernels::Isa;

const SCRIPT: &str = "model \"tiny-llama\"\nprompt p = \"One day Ben was at the school.\"\n\
                      hook a at blocks[1].resid.post { h *= 2 }\n\
                      capture logits on prompt of p with a to \"z.safetensors\"\n";

/// `steer build` in a folder, with the programs of `path` or all of this machine.
fn build(folder: &Folder, args: &[&str], path: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
    command.arg("build").args(args).current_dir(folder.path());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The names of a folder's files, hidden ones too.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn an_instruction_set_of_other_processors_is_refused_before_anything_is_read() {
    let folder = Folder::new("build-isa");
    folder.write("a.steer", b"model \"nowhere\"\n");
    let known: Vec<&str> = Isa::buildable().map(Isa::name).collect();
    for isa in Isa::ALL.map(Isa::name).into_iter().chain(["sse2"]) {
        let out = build(&folder, &["a.steer", "-o", isa, "--isa", isa], None);
        assert_eq!(out.status.code(), Some(1), "{isa}");
        let said = text(&out.stderr);
        if known.contains(&isa) {
            assert!(said.contains("there is no model `nowhere`"), "{said}");
            continue;
        }
        assert!(
            said.contains("E0801") && said.contains(&format!("`{isa}` is no instruction set to build for")),
            "{said}"
        );
        assert!(said.contains(&format!("on this architecture there are: {}", known.join(", "))), "{said}");
        assert!(!folder.path().join(isa).exists(), "nothing is made for {isa}");
    }
}

/// By whatever the system links with.
#[test]
fn files_have_the_name_of_the_script_as_one_of_c() {
    if let Err(e) = Command::new("cc").arg("--version").output() {
        assert!(e.kind() == ErrorKind::NotFound && std::env::var_os("STEER_REQUIRE_CALLERS").is_none(), "cc: {e}");
        let _ = writeln!(std::io::stderr(), "skipped: there is no C compiler");
        return;
    }
    let folder = Folder::new("build-names");
    for (script, name) in [("loud.steer", "loud"), ("2 be-or.not.steer", "hooks_2_be_or_not")] {
        folder.write(script, SCRIPT.as_bytes());
        let out = build(&folder, &[script, "-o", name], None);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        let [header, object, shared] = [format!("{name}.h"), format!("{name}.o"), format!("lib{name}.so")];
        let made =
            format!("steer_a: a at blocks[layer].resid.post\n{name}/{header}, {name}/{object}, {name}/{shared}\n");
        assert_eq!(text(&out.stdout), made);
        let at = folder.path().join(name);
        let mut expected = vec![header.clone(), object, shared.clone()];
        expected.sort();
        assert_eq!(files(&at), expected);
        let header = std::fs::read_to_string(at.join(header)).unwrap();
        assert!(header.contains(&format!("#ifndef STEER_{}_H\n", name.to_ascii_uppercase())), "{header}");
        assert!(header.contains(&format!(", for processors with {}.\n", Isa::detect().name())), "{header}");
        assert!(std::fs::read(at.join(shared)).unwrap().starts_with(b"\x7fELF"));
    }
}

#[cfg(unix)]
#[test]
fn where_nothing_can_be_linked_the_rest_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("build-link");
    folder.write("a.steer", SCRIPT.as_bytes());
    let programs = folder.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let cannot = |why: &str| {
        let out = build(&folder, &["a.steer", "-o", "out"], Some(&programs));
        assert_eq!(out.status.code(), Some(1));
        let said = text(&out.stderr);
        assert!(said.contains("E0703") && said.contains("cannot link `out/liba.so`") && said.contains(why), "{said}");
        assert!(said.contains("the header and the object file are written"), "{said}");
    };
    cannot("`cc` cannot be started");
    assert_eq!(files(&folder.path().join("out")), ["a.h", "a.o"]);

    // One that has written something before it fails; the library of before stays.
    let cc = folder.write("programs/cc", b"#!/bin/sh\necho half > \"$3\"\necho this is no good >&2\nexit 1\n");
    std::fs::set_permissions(&cc, PermissionsExt::from_mode(0o755)).unwrap();
    let before = folder.write("out/liba.so", b"before");
    cannot("this is no good");
    assert_eq!(files(&folder.path().join("out")), ["a.h", "a.o", "liba.so"]);
    assert_eq!(std::fs::read(before).unwrap(), b"before");
}
