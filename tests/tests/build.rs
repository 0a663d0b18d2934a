//! Hooks that are built as functions, called from C and from Python, against what `run` captures.
#![cfg(feature = "llvm")]

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use steer::experiment::{self, PhaseOptions, Session, SessionOptions, library};
use steer_kernels::Isa;
use steer_lang::{Diagnostics, Sources};
use steer_tests::script::Scratch;

const SCRIPT: &str = r#"model "tiny-llama"
data glad = ["Lily was so happy that", "It was the best day, and"]
data sad = ["Lily was so sad that", "It was the worst day, and"]
vector mood[layer] = mean_diff(glad, sad) at blocks[layer].resid.post on prompt[-1]
prompt p = "One day Ben was at the school."
hook turned(alpha = 4.0, t = 0.5) at blocks[1..3].resid.post on prompt[1..] {
    let u = unit(mood[layer])
    h += alpha * mood[layer]
    when dot(h, u) > t && position > 2 {
        h -= dot(h, u) * u
    }
    h *= norm(h0) / norm(h)
}
hook heads(which = 3) at blocks[2].attn.z {
    when index(head) == which { h = 0 } else { h = tanh(h) + layer }
}
capture before blocks[1].resid.post, blocks[2].resid.post, blocks[2].attn.z on prompt of p with turned, heads to "before.safetensors"
capture blocks[1].resid.post, blocks[2].resid.post, blocks[2].attn.z on prompt of p with turned, heads to "after.safetensors"
"#;

fn open(path: PathBuf, text: &str) -> Result<Session, Diagnostics> {
    let options = SessionOptions { weights: true, ..SessionOptions::default() };
    Session::open_text(&path, text.into(), &options, &mut Sources::default())
}

/// Builds the script into a folder, and captures the sites of its hooks before and after their edits.
fn built(folder: &Path) -> String {
    let session = open(folder.join("script.steer"), SCRIPT).unwrap_or_else(|d| panic!("{d:#?}"));
    experiment::run(&session, &PhaseOptions::default(), &mut |_| Ok(())).unwrap_or_else(|d| panic!("{d:#?}"));
    let built =
        library(&session, &PhaseOptions::default(), Isa::detect(), "script").unwrap_or_else(|d| panic!("{d:#?}"));
    std::fs::write(folder.join("script.o"), &built.object).unwrap();
    std::fs::write(folder.join("script.h"), &built.header).unwrap();
    for (when, file) in [("before", "before.safetensors"), ("after", "after.safetensors")] {
        for (name, key) in [("1", "blocks[1].resid.post"), ("2", "blocks[2].resid.post"), ("z", "blocks[2].attn.z")] {
            let array = steer::tensors::load(&folder.join(file), Some(key)).unwrap_or_else(|e| panic!("{e}"));
            let bytes: Vec<u8> = array.data.iter().flat_map(|x| x.to_le_bytes()).collect();
            std::fs::write(folder.join(format!("{name}.{when}")), bytes).unwrap();
        }
    }
    built.header
}

/// What a program prints, or where it fails that and its errors; `None`: there is no such program.
fn run(folder: &Path, program: &str, args: &[&str]) -> Option<Result<String, String>> {
    let out = match Command::new(program).args(args).current_dir(folder).output() {
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        out => out.unwrap_or_else(|e| panic!("{program}: {e}")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stdout) + &text(&out.stderr)) })
}

/// Says, past what catches the output of tests, that there is nothing to call with; `STEER_REQUIRE_CALLERS` makes that a
/// failure.
fn skipped(missing: &str) {
    assert!(std::env::var_os("STEER_REQUIRE_CALLERS").is_none(), "there is no {missing}");
    let _ = writeln!(std::io::stderr(), "skipped: there is no {missing}");
}

/// Whether there is a C compiler, and it took this.
fn compiled(folder: &Path, args: &[&str]) -> bool {
    match run(folder, "cc", args) {
        Some(done) => done.map(|_| true).unwrap_or_else(|e| panic!("{e}")),
        None => {
            skipped("C compiler");
            false
        }
    }
}

const C: &str = r#"
#include "script.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *rows(const char *name, size_t *count) {
    FILE *f = fopen(name, "rb");
    fseek(f, 0, SEEK_END);
    *count = ftell(f) / sizeof(float);
    rewind(f);
    float *x = malloc(*count * sizeof(float));
    if (fread(x, sizeof(float), *count, f) != *count) exit(2);
    fclose(f);
    return x;
}

/* The rows of a file, edited, against those of another. */
static int check(const char *name, int64_t layer, int all) {
    char file[64];
    size_t n, m;
    snprintf(file, sizeof file, "%s.before", name);
    float *x = rows(file, &n);
    snprintf(file, sizeof file, "%s.after", name);
    float *y = rows(file, &m);
    size_t len = *name == 'z' ? STEER_HEADS_LEN : STEER_TURNED_LEN, count = n / len;
    int64_t *position = malloc(count * sizeof *position);
    uint8_t *active = malloc(count);
    for (size_t i = 0; i < count; i++) { position[i] = i; active[i] = i > 0; }
    float params[STEER_TURNED_PARAMS] = {4.0f, 0.5f};
    int code = *name == 'z' ? steer_heads(layer, x, count, len, NULL, NULL, NULL)
                            : steer_turned(layer, x, count, len, position, active, all ? NULL : params);
    int same = n == m && memcmp(x, y, n * sizeof(float)) == 0;
    printf("%s %d %s\n", name, code, same ? "same" : "different");
    return code != 0 || !same;
}

int main(void) {
    float one[STEER_TURNED_LEN] = {1};
    int64_t zero = 0;
    printf("%d %d\n", steer_turned(7, one, 1, STEER_TURNED_LEN, &zero, NULL, NULL),
           steer_turned(1, one, 1, STEER_TURNED_LEN, NULL, NULL, NULL));
    return check("1", 1, 1) | check("2", 2, 0) | check("z", 2, 1);
}
"#;

#[test]
fn a_c_program_edits_rows_as_a_run_does() {
    let folder = Scratch::new("build-c");
    let header = built(&folder.0);
    for line in [
        "int steer_turned(int64_t layer, float *rows",
        "Layers: 1, 2. A row: [d_model 128], 128 floats.",
        "params[0]: alpha, 4",
    ] {
        assert!(header.contains(line), "{line} in\n{header}");
    }
    std::fs::write(folder.0.join("main.c"), C).unwrap();
    let flags =
        ["-std=c11", "-Wall", "-Wextra", "-Werror", "-D_POSIX_C_SOURCE=200809L", "main.c", "script.o", "-o", "main"];
    if compiled(&folder.0, &flags) {
        assert_eq!(run(&folder.0, "./main", &[]), Some(Ok("1 3\n1 0 same\n2 0 same\nz 0 same\n".into())));
    }
}

/// Kernels are made of products and roundings that the plainest processors have in a library only.
#[test]
fn an_object_calls_nothing_but_malloc_and_free() {
    let folder = Scratch::new("build-alone");
    let text = "model \"tiny-llama\"\nprompt p = \"One day Ben was at the school.\"\n\
                hook a at blocks[1].resid.post { h = round(h * 2 + norm(h)) / sqrt(exp(h) + 1) }\n\
                capture logits on prompt of p with a to \"z.safetensors\"\n";
    let session = open(folder.0.join("a.steer"), text).unwrap_or_else(|d| panic!("{d:#?}"));
    std::fs::write(
        folder.0.join("memory.c"),
        "void *malloc(unsigned long n) { return (void *)n; }\nvoid free(void *p) {}\n",
    )
    .unwrap();
    for isa in Isa::ALL {
        let built = library(&session, &PhaseOptions::default(), isa, "a");
        assert_eq!(built.is_ok(), isa.is_buildable(), "{}", isa.name());
        let Ok(built) = built else { continue };
        std::fs::write(folder.0.join("a.o"), built.object).unwrap();
        let alone = ["-nostdlib", "-fno-builtin", "-shared", "-Wl,-z,defs", "memory.c", "a.o", "-o", "liba.so"];
        if !compiled(&folder.0, &alone) {
            return;
        }
    }
}

const PYTHON: &str = r#"
import ctypes, numpy as np
lib = ctypes.CDLL("./libscript.so")
lib.steer_turned.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t] + [ctypes.c_void_p] * 3
for layer in (1, 2):
    h = np.fromfile(f"{layer}.before", np.float32).reshape(-1, 128)
    wide = np.full((len(h), 160), 7, np.float32)
    wide[:, :128] = h
    position = np.arange(len(h), dtype=np.int64)
    active = (position > 0).astype(np.uint8)
    params = np.array([4.0, 0.5], np.float32)
    code = lib.steer_turned(layer, wide.ctypes.data, len(h), 160, position.ctypes.data, active.ctypes.data, params.ctypes.data)
    after = np.fromfile(f"{layer}.after", np.float32).reshape(-1, 128)
    assert code == 0 and (wide[:, :128].view(np.uint32) == after.view(np.uint32)).all(), layer
    assert (wide[:, 128:] == 7).all() and not (after == h).all()
print("same")
"#;

#[test]
fn numpy_edits_rows_as_a_run_does() {
    let folder = Scratch::new("build-numpy");
    let python = std::env::var("STEER_PYTHON").unwrap_or("python3".into());
    let asked = "import importlib.util as u; print(u.find_spec('numpy') is not None)";
    match run(&folder.0, &python, &["-c", asked]) {
        None => return skipped(&python),
        Some(there) => match there.unwrap_or_else(|e| panic!("{e}")).trim() {
            "True" => {}
            _ => return skipped(&format!("NumPy for {python}")),
        },
    }
    built(&folder.0);
    if compiled(&folder.0, &["-shared", "-o", "libscript.so", "script.o"]) {
        std::fs::write(folder.0.join("main.py"), PYTHON).unwrap();
        assert_eq!(run(&folder.0, &python, &["main.py"]), Some(Ok("same\n".into())));
    }
}

#[test]
fn what_is_no_function_of_a_row_is_refused() {
    let folder = Scratch::new("build-refused");
    for (body, why) in [
        ("hook a at blocks[1].resid.post { h += blocks[0].mlp.out }", "reads other values of the model"),
        ("hook a at blocks[1].attn.pattern { h *= 0.5 }", "acts inside of an attention"),
        ("hook a at blocks[1].resid.post { h = cos(h) }", "computes `cos`"),
        ("patch a at blocks[1].resid.post on prompt[-1] from q", "takes values of another run"),
    ] {
        let text = format!(
            "model \"tiny-llama\"\nprompt p = \"One day Ben was at the school.\"\nprompt q = \"One day Sam was at the market.\"\n\
             {body}\ncapture logits on prompt of p with a to \"z.safetensors\"\n"
        );
        let session = open(folder.0.join("a.steer"), &text).unwrap_or_else(|d| panic!("{d:#?}\n{text}"));
        let refused = library(&session, &PhaseOptions::default(), Isa::detect(), "a").err().expect("a refusal");
        assert!(refused[0].message.contains(why), "{body}: {refused:#?}");
    }
}
