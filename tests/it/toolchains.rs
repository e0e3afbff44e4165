//! Real toolchains work unchanged behind the system call filter and the other walls.
//!
//! `cargo`, `npm`, `pip`, `git` and a data base server are in `clients`; `gcc` and `make` are everywhere.

use crate::support::{PATH, Project};

/// Runs the script in a project with these files; it prints `right` at its end, and nothing else.
#[track_caller]
fn works(files: &[(&str, &str)], script: &str) {
    let names: Vec<String> = files.iter().map(|(name, _)| format!("'{name}'")).collect();
    let mut config = format!("inputs = [{}]\n[env]\nset = {{ PATH = '{PATH}' }}\n", names.join(", "));
    // Debian's Java has links to its configuration there.
    for entry in std::fs::read_dir("/etc").expect("/etc").flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with("java-")) {
            config += &format!("[[mount]]\nsource = '/etc/{name}'\ntarget = '/etc/{name}'\nidentity = 'metadata'\n");
        }
    }
    let mut project = Project::new().config(&config);
    for (name, content) in files {
        project = project.file(name, content);
    }
    project.sh(&format!("set -e; {script}")).stdout("right\n");
}

const THREADS: (&str, &str) = (
    "t.c",
    "#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
     static void *add(void *sum) { for (int i = 0; i < 1000; i++) __atomic_fetch_add((int *)sum, 1, __ATOMIC_SEQ_CST); return NULL; }\n\
     int main(void) { int sum = 0; pthread_t threads[8];\n\
     for (int i = 0; i < 8; i++) if (pthread_create(&threads[i], NULL, add, &sum)) return 1;\n\
     for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);\n\
     if (fork() == 0) _exit(system(\"true\")); int status; wait(&status);\n\
     puts(sum == 8000 && status == 0 ? \"right\" : \"wrong\"); return 0; }\n",
);

#[test]
fn gcc_with_threads_and_at_link_time() {
    need!(Sandbox);
    need!(Compiler);
    works(&[THREADS], "cc -O2 -flto=2 -pthread -Wall t.c -o t; ./t");
    works(&[THREADS], "cc -g -fsanitize=address,undefined -pthread t.c -o t; ASAN_OPTIONS=detect_leaks=0 ./t");
}

#[test]
fn clang_with_threads() {
    need!(Sandbox);
    need!(Program("clang"));
    works(&[THREADS], "clang -O2 -pthread -Wall t.c -o t; ./t");
}

#[test]
fn make_with_a_job_server() {
    need!(Sandbox);
    need!(Program("make"));
    let rules = "all: $(addprefix o/, 1 2 3 4 5 6 7 8 9)\n\t@cat $^ | sort -n | tail -1 | grep -qx 9 && echo right\n\
                 o/%:\n\t@mkdir -p o; sleep 0.0$*; echo $* > $@\n";
    works(&[("Makefile", rules)], "make -j4 --no-print-directory");
}

#[test]
fn ccache_answers_the_second_time() {
    need!(Sandbox);
    need!(Compiler);
    need!(Program("ccache"));
    let script = "export CCACHE_DIR=/tmp/cc; ccache cc -pthread -c t.c -o 1.o; ccache cc -pthread -c t.c -o 2.o; cmp 1.o 2.o; \
                  ccache --print-stats | grep -Pq '^(direct_cache_hit|preprocessed_cache_hit)\\t1$'; echo right";
    works(&[THREADS], script);
}

#[test]
fn gdb_and_strace_trace_their_own_children() {
    need!(Sandbox);
    need!(Compiler);
    need!(Program("gdb"));
    need!(Program("strace"));
    let gdb = "cc -g -pthread t.c -o t; gdb -q -nx -batch -ex 'break add' -ex run -ex 'info threads' -ex bt ./t > log 2>&1; \
               grep -q 'Breakpoint 1, add' log && grep -q '#0  *add' log && echo right";
    works(&[THREADS], gdb);
    works(&[THREADS], "cc -pthread t.c -o t; strace -f -o log ./t > out; grep -q 'exited with 0' log; cat out");
}

#[test]
fn python_with_threads_processes_and_a_data_base() {
    need!(Sandbox);
    need!(Program("python3"));
    let program = r#"
import asyncio, concurrent.futures as f, multiprocessing as m, sqlite3, socket, subprocess, tempfile, mmap, select

def square(n):
    return n * n

async def pipes():
    p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)
    return (await p.communicate(b'x'))[0]

if __name__ == '__main__':
    assert sum(m.Pool(3).map(square, range(10))) == 285
    assert list(f.ThreadPoolExecutor(4).map(square, [3])) == [9]
    assert asyncio.run(pipes()) == b'x'
    q = m.get_context('spawn').SimpleQueue()
    q.put(1)
    assert q.get() == 1
    c = sqlite3.connect('d')
    c.execute('pragma journal_mode=wal')
    c.execute('create table t(a)')
    c.commit()
    a, b = socket.socketpair()
    a.send(b'y')
    assert b.recv(1) == b'y'
    s = socket.create_server(('127.0.0.1', 0))
    socket.create_connection(s.getsockname())
    print('right')
"#;
    works(&[("p.py", program)], "python3 p.py");
}

#[test]
fn java_compiles_and_runs() {
    need!(Sandbox);
    need!(Program("javac"));
    let program = "import java.util.stream.*;\npublic class T { public static void main(String[] a) throws Exception {\n\
        Process p = new ProcessBuilder(\"true\").start();\n        int sum = IntStream.range(0, 1000).parallel().sum();\n\
        System.out.println(sum == 499500 && p.waitFor() == 0 ? \"right\" : \"wrong\"); } }\n";
    works(&[("T.java", program)], "javac T.java; java -XX:-UsePerfData T");
}

#[test]
fn go_builds_and_runs() {
    need!(Sandbox);
    need!(Program("go"));
    let program = "package main\n\nimport (\n\t\"fmt\"\n\t\"net\"\n\t\"os/exec\"\n\t\"sync\"\n)\n\nfunc main() {\n\
        \tvar group sync.WaitGroup\n\tfor i := 0; i < 50; i++ {\n\t\tgroup.Add(1)\n\t\tgo group.Done()\n\t}\n\tgroup.Wait()\n\
        \tlistener, err := net.Listen(\"tcp\", \"127.0.0.1:0\")\n\tif err == nil && listener != nil && exec.Command(\"true\").Run() == nil {\n\
        \t\tfmt.Println(\"right\")\n\t}\n}\n";
    works(&[("go.mod", "module t\n\ngo 1.19\n"), ("t.go", program)], "go build -o t ./t.go && ./t");
}

#[test]
fn node_runs_workers_and_children() {
    need!(Sandbox);
    need!(Program("node"));
    let program = "const { Worker, isMainThread, parentPort } = require('worker_threads');\n\
        const { execFileSync } = require('child_process');\nconst fs = require('fs');\n\
        if (isMainThread) { fs.writeFileSync('f', 'x'); fs.promises.readFile('f').then(() => new Worker(__filename)\n\
        .on('message', (m) => console.log(m + execFileSync('echo', ['ght'])).toString().trim())); }\n\
        else parentPort.postMessage('ri');\n";
    let program = program.replace(
        "console.log(m + execFileSync('echo', ['ght'])).toString().trim()",
        "process.stdout.write(m + execFileSync('echo', ['ght']).toString())",
    );
    works(&[("w.js", &program)], "node w.js");
}

#[test]
fn archives_scripts_and_repositories() {
    need!(Sandbox);
    need!(Program("git"));
    need!(Program("perl"));
    let script = "mkdir d; echo 1 > d/a; tar czf a.tgz d; rm -r d; tar xzf a.tgz; git init -q r; cd r; cp ../d/a .; git add a; \
        git -c user.name=x -c user.email=x@x commit -qm x; git gc -q; git clone -q . ../s; \
        perl -MIO::Socket -MFile::Temp -e 'my $p = fork // die; exit if !$p; waitpid $p, 0; print `cat a` == 1 ? \"right\\n\" : \"wrong\\n\"'";
    works(&[], script);
}
