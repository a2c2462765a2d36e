//! The same dataflows, with exchange, aggregate and join, over two Timely processes on loopback: nothing in this room knows that there is only one.

use std::net::TcpListener;
use std::process::{Child, Command as Process, Stdio};

use super::tests::{Engine, PAIRS, TABLE, UPPER, VIEW, install_all};
use super::*;

/// Set for the child processes: `process,address,address`.
const MEMBER: &str = "HEADWATER_TEST_CLUSTER_MEMBER";
/// Worker threads of each process.
const THREADS: usize = 2;
/// Marks the lines of a child's output that are rows.
const ROW: &str = "row ";

/// Runs the same steps whatever the engine's workers are.
fn run(engine: &mut Engine) {
    install_all(engine);
    for step in 0..20 {
        let row = |index: i64| format!("+1 | {} | {index}\n", index * 7 % 16);
        let old = |index: i64| format!("-1 | {} | {index}\n", index * 7 % 16);
        let rows: String = (step * 50..step * 50 + 50).map(row).collect();
        let gone: String = (step * 50 - 20..step * 50).filter(|index| *index > 0).map(old).collect();
        engine.table(&(rows + &gone));
    }
}

fn rows(engine: &Engine) -> Vec<String> {
    let lines = |relation| {
        let rows = engine.rows(relation);
        rows.lines().map(|line| format!("{relation} {line}")).collect::<Vec<_>>()
    };
    [TABLE, VIEW, UPPER, PAIRS].into_iter().flat_map(lines).collect()
}

#[test]
fn two_processes_give_the_answers_of_one() {
    if let Ok(member) = std::env::var(MEMBER) {
        return be_member(&member);
    }
    let mut alone = Engine::start(1);
    run(&mut alone);
    let mut expected = rows(&alone);
    // The listeners hold the ports until the children take them; nobody else asks for ports that were just given.
    let listeners: Vec<TcpListener> =
        (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback has free ports")).collect();
    let addresses: Vec<String> =
        listeners.iter().map(|listener| listener.local_addr().expect("it is bound").to_string()).collect();
    drop(listeners);
    let children: Vec<Child> =
        (0..2).map(|process| spawn_member(&format!("{process},{}", addresses.join(",")))).collect();
    let mut found = Vec::new();
    for child in children {
        let output = child.wait_with_output().expect("the child can be awaited");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        let rows: Vec<String> = text.lines().filter_map(|line| line.strip_prefix(ROW)).map(str::to_owned).collect();
        assert!(!rows.is_empty(), "each process owns some of the rows");
        found.extend(rows);
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

fn spawn_member(member: &str) -> Child {
    let test = std::env::current_exe().expect("this test is a program");
    Process::new(test)
        .args(["--exact", "dataflow::cluster_tests::two_processes_give_the_answers_of_one", "--nocapture"])
        .env(MEMBER, member)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be run again")
}

fn be_member(member: &str) {
    let mut words = member.split(',');
    let process: usize = words.next().and_then(|word| word.parse().ok()).expect("the number of the process");
    let addresses: Vec<String> = words.map(str::to_owned).collect();
    let workers = Workers::start_in_cluster(THREADS, process, addresses).expect("the processes find each other");
    let mut engine = Engine::with(workers, THREADS);
    run(&mut engine);
    rows(&engine).iter().for_each(|row| println!("\n{ROW}{row}"));
}
