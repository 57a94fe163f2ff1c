//! The screens of a terminal. They are kept in `terminal/`, so that they can be looked at.
//!
//! Gates hold the registries, so that each screen is certain to appear and to stay; values that depend on the clock
//! are masked.

use crate::support::cli::Cli;
use crate::support::gate::Gate;
use crate::support::images::{Image, image};
use crate::support::registry::Registry;
use crate::support::scene::Scene;
use crate::support::script::Fault;
use crate::support::terminal::{Terminal, masked};

/// Rows and columns.
const SIZES: [(u16, u16); 3] = [(24, 80), (40, 120), (24, 40)];

/// Ctrl-C.
const INTERRUPT: &str = "\u{3}";

fn assert_screen(name: &str, (rows, columns): (u16, u16), screen: &str) {
    for line in screen.lines() {
        assert!(line.chars().count() <= usize::from(columns), "{line}");
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("terminal");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("{name}-{columns}x{rows}"), masked(screen)));
}

/// Fails if anything is left of the frame, or the cursor isn't where a shell's prompt belongs.
fn assert_at_ease(terminal: &Terminal) {
    let ((row, column), is_visible) = terminal.cursor();
    let used = u16::try_from(terminal.shown().lines().count()).expect("rows");
    assert!(is_visible && column == 0 && row <= used + 1, "{row}:{column} of\n{}", terminal.shown());
    assert!(!terminal.shown().contains("^C"), "{}", terminal.shown());
}

/// Images of ghcr.io, each with one layer that is 100 kB larger than that of the image before.
async fn publish(scene: &Scene, count: usize) -> Vec<Image> {
    let mut list = String::new();
    let mut images = Vec::new();
    for n in 1..=count {
        let image = image(&format!("service {n}")).layer(100_000 * n + 200_000).build();
        image.push(&scene.source.inside(&format!("team/service-{n}")), "v1.27.3").await;
        list.push_str(&format!("  - ghcr.io/team/service-{n}:v1.27.3\n"));
        images.push(image);
    }
    configure(scene, &list);
    images
}

/// Real names for the registries of the test, so that nothing on the screen depends on their ports.
fn configure(scene: &Scene, images: &str) {
    scene.write(
        "mirror.yaml",
        &format!(
            "target: harbor.example.com/mirror\nimages:\n{images}registries:\n  ghcr.io: {{endpoint: \"http://SRC\"}}\n  \
             harbor.example.com: {{endpoint: \"http://DST\"}}\n"
        ),
    );
}

/// Answers of the source with a blob stop after this many bytes.
fn hold_blobs(scene: &Scene) -> Gate {
    let gate = Gate::closed();
    scene.source.script.always("GET", "/blobs/", Fault::Hold { after: 157_000, gate: gate.clone() });
    gate
}

#[tokio::test]
async fn a_slow_source() {
    for size in SIZES {
        let scene = Scene::new().await;
        publish(&scene, 12).await;
        let gate = hold_blobs(&scene);
        let mut terminal = Terminal::start(&scene.cli, "sync -j 12", size);
        // All transfers have stopped.
        let is_held = |line: &str| {
            let n = line.split_once("service-").and_then(|(_, rest)| rest.split(':').next()?.parse::<u64>().ok());
            n.is_none_or(|n| line.ends_with(&format!(" {} %", 157_020 * 100 / (n * 100_000 + 200_020))))
        };
        let is_held = |shown: &str| shown.contains("1.9 MB of 10.2 MB ") && shown.lines().all(is_held);
        let shown = terminal.until(is_held).await;
        assert_screen("sync-slow", size, &shown);
        gate.open();
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 0, "{shown}");
        // The order of completion isn't deterministic; the report follows the list.
        let report = shown.split_once("copied ").map_or(shown.as_str(), |(_, report)| report);
        assert_screen("sync-done", size, &format!("copied {report}"));
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn failures_are_printed_last() {
    for size in SIZES {
        let scene = Scene::new().await;
        publish(&scene, 2).await;
        let missing: String = (1..=6).map(|n| format!("  - ghcr.io/team/missing-{n}:v1\n")).collect();
        configure(&scene, &format!("  - ghcr.io/team/service-1:v1.27.3\n{missing}"));
        let mut terminal = Terminal::start(&scene.cli, "sync", size);
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 1, "{shown}");
        let (scrolled, report) = shown.split_once("copied ").unwrap_or(("", &shown));
        assert!(
            size.1 == 40 || scrolled.contains("✗ ghcr.io/team/missing-") && scrolled.contains("404 Not Found"),
            "{shown}"
        );
        assert!(size.1 == 40 || scrolled.contains("✓ ghcr.io/team/service-1:v1.27.3"), "{shown}");
        assert_screen("sync-failures", size, &format!("copied {report}"));
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn a_waiting_host_and_a_second_interrupt() {
    for size in SIZES {
        let scene = Scene::new().await;
        let limited = Registry::start().await;
        limited.script.always("HEAD", "/library/", Fault::throttle(3599));
        publish(&scene, 1).await;
        let list =
            scene.cli.read("mirror.yaml").expect("it is written") + "  docker.io: {endpoint: \"http://LIMITED\"}\n";
        let list = list.replace("images:\n", "limits: {max_wait: 2h}\nimages:\n  - nginx:1.27\n");
        scene.write("mirror.yaml", &list.replace("LIMITED", limited.name().as_str()));
        let mut terminal = Terminal::start(&scene.cli, "sync", size);
        let shown = terminal.until_says(&["resolving 1/2 images", "docker.io asks to wait 59 m "]).await;
        assert!(shown.contains(" s (429)"), "{shown}");
        assert_screen("sync-waiting", size, &shown);
        terminal.types(INTERRUPT).await;
        // Pending lookups aren't completed: the run ends at once.
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 130, "{shown}");
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn an_interrupt_lets_transfers_finish() {
    for size in SIZES {
        let scene = Scene::new().await;
        publish(&scene, 4).await;
        let gate = hold_blobs(&scene);
        // The target doesn't answer to the manifest of the fourth.
        scene.target.script.always("PUT", "/service-4/manifests/", Fault::Wait(Gate::closed()));
        let mut terminal = Terminal::start(&scene.cli, "sync", size);
        terminal.until_says(&["628.1 kB of "]).await;
        terminal.types(INTERRUPT).await;
        let shown = terminal.until_says(&["finishing 4 transfers, at most ", "628.1 kB of "]).await;
        assert_screen("interrupted", size, &shown);
        gate.open();
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 130, "{shown}");
        let report = shown.split_once("copied ").map_or(shown.as_str(), |(_, report)| report);
        assert_screen("interrupted-done", size, &format!("copied {report}"));
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn a_second_interrupt_ends_the_run_with_one_line() {
    let size = SIZES[0];
    let scene = Scene::new().await;
    publish(&scene, 3).await;
    let _gate = hold_blobs(&scene);
    let mut terminal = Terminal::start(&scene.cli, "sync", size);
    terminal.until_says(&["471.1 kB of "]).await;
    terminal.types(INTERRUPT).await;
    terminal.until_says(&["finishing 3 transfers, at most "]).await;
    terminal.types(INTERRUPT).await;
    let (code, shown) = terminal.ended().await;
    assert_eq!((code, shown.as_str()), (130, "stopped: the next run continues where this one stopped"));
    assert_at_ease(&terminal);
}

#[tokio::test]
async fn a_plan_for_two_targets() {
    for size in SIZES {
        let scene = Scene::new().await;
        publish(&scene, 3).await;
        let list = scene.cli.read("mirror.yaml").expect("it is written");
        let two = "targets: [harbor.example.com/mirror, registry.example.org:5000/copies]";
        let list = list.replace("target: harbor.example.com/mirror", two)
            + "  registry.example.org:5000: {endpoint: \"http://DST\"}\n";
        scene.write("mirror.yaml", &list);
        let mut terminal = Terminal::start(&scene.cli, "plan", size);
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 0, "{shown}");
        assert_screen("plan", size, &shown);
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn a_check_that_warns() {
    for size in SIZES {
        let scene = Scene::new().await;
        publish(&scene, 2).await;
        let list = scene.cli.read("mirror.yaml").expect("it is written");
        scene.write("mirror.yaml", &(list + "  harbor.example.org: {plain_http: true}\n"));
        scene.target.script.always("POST", "/uploads/", Fault::refuse(403, "DENIED"));
        let mut terminal = Terminal::start(&scene.cli, "check", size);
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 1, "{shown}");
        assert_screen("check", size, &shown);
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn a_verification() {
    for size in SIZES {
        let scene = Scene::new().await;
        let images = publish(&scene, 3).await;
        assert_eq!(scene.cli.run("sync").await.code, 0);
        let gate = Gate::closed();
        scene.target.script.always("HEAD", "/manifests/", Fault::Wait(gate.clone()));
        let of = |n: usize| scene.target.inside(&format!("mirror/ghcr.io/team/service-{n}"));
        images[0].push(&of(2), "v1.27.3").await;
        let mut terminal = Terminal::start(&scene.cli, "verify", size);
        let shown = terminal.until_says(&["verifying 0/3 images", "service-3"]).await;
        assert_screen("verify-slow", size, &shown);
        gate.open();
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 3, "{shown}");
        assert_screen("verify", size, &shown);
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn a_verification_of_content_shows_the_bytes_of_each_image() {
    let scene = Scene::new().await;
    publish(&scene, 2).await;
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let gate = Gate::closed();
    scene.target.script.always("GET", "/blobs/", Fault::Hold { after: 157_000, gate: gate.clone() });
    let mut terminal = Terminal::start(&scene.cli, "verify --content", SIZES[0]);
    let first = "service-1:v1.27.3  157.0 kB of 300.0 kB   52 %";
    let second = "service-2:v1.27.3  157.0 kB of 400.0 kB   39 %";
    terminal.until_says(&["reading 0/2 images", first, second]).await;
    gate.open();
    let (code, shown) = terminal.ended().await;
    assert!(code == 0 && shown.contains("2 as pinned"), "{shown}");
    assert_at_ease(&terminal);
}

#[tokio::test]
async fn the_demo() {
    for size in SIZES {
        let cli = Cli::new();
        let mut terminal = Terminal::start(&cli, "demo", size);
        terminal.until_says(&["copying ", "docker.io/library/"]).await;
        let (code, shown) = terminal.ended().await;
        assert_eq!(code, 0, "{shown}");
        assert!(!terminal.raw().contains("WARN") && !terminal.raw().contains("warning"), "{}", terminal.raw());
        assert_screen("demo", size, &shown);
        assert_at_ease(&terminal);
    }
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_behind() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("tmp")).expect("a folder");
    let folder = cli.path("tmp").display().to_string();
    let variables = [("TERM", "xterm"), ("TMPDIR", folder.as_str())];
    let mut terminal = Terminal::start_with(&cli, "demo", SIZES[0], &variables);
    terminal.until_says(&["copying ", "docker.io/library/"]).await;
    terminal.types(INTERRUPT).await;
    let (code, shown) = terminal.ended().await;
    assert_eq!(code, 130, "{shown}");
    // The number of copied images isn't deterministic.
    let (_, last) = shown
        .split_once("3. transship sync\nCopies the images. A layer that two images share is copied once.")
        .expect("a step");
    assert!(last.lines().all(|line| line.is_empty() || line.starts_with("✓ ")), "{shown}");
    assert_at_ease(&terminal);
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_window_that_is_resized() {
    let scene = Scene::new().await;
    publish(&scene, 6).await;
    let gate = hold_blobs(&scene);
    let mut terminal = Terminal::start(&scene.cli, "sync -j 6", (24, 80));
    for (size, bytes) in [((24, 80), " of "), ((24, 40), " %"), ((24, 120), " of "), ((10, 40), " %")] {
        let fits = |shown: &str| {
            let lines = || shown.lines().filter(|line| line.starts_with("copying "));
            let images = shown.lines().filter(|line| line.contains("service-")).all(|line| line.contains(bytes));
            let narrow = shown.lines().all(|line| line.chars().count() < usize::from(size.1));
            lines().count() == 1 && lines().all(|line| line.contains("942.1 kB of 3.3 MB")) && images && narrow
        };
        terminal.resize(size, fits).await;
        terminal.until(fits).await;
    }
    gate.open();
    assert_eq!(terminal.ended().await.0, 0);
    assert_at_ease(&terminal);
}

/// Failures, a warning, an error, and the output of clap.
const LINES: [&str; 4] = ["sync --progress auto", "check", "nonsense", "sync -c missing.yaml"];

async fn scene_with_trouble() -> Scene {
    let scene = Scene::new().await;
    publish(&scene, 1).await;
    let list = scene.cli.read("mirror.yaml").expect("it is written") + "  ghcr.oi: {plain_http: true}\n";
    scene.write("mirror.yaml", &list.replace("images:\n", "images:\n  - ghcr.io/team/missing:1\n"));
    scene
}

#[tokio::test]
async fn no_escape_sequences_are_printed_outside_a_terminal() {
    for variables in [[("TERM", "dumb"), ("LANG", "C")], [("TERM", "xterm"), ("CI", "true")]] {
        let scene = scene_with_trouble().await;
        for line in LINES {
            let mut terminal = Terminal::start_with(&scene.cli, line, (24, 80), &variables);
            let (code, shown) = terminal.ended().await;
            assert!(
                code != 0 && !terminal.raw().contains('\u{1b}'),
                "{variables:?} {line}: {shown}\n{:?}",
                terminal.raw()
            );
        }
    }
    let scene = scene_with_trouble().await;
    for line in LINES {
        let run = scene.cli.run(line).await;
        assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'), "{line}: {run}");
    }
}

/// `text` without the sequences that only colour.
fn colourless(text: &str) -> String {
    regex::Regex::new("\u{1b}\\[[0-9;]*m").expect("a constant pattern").replace_all(text, "").into_owned()
}

#[tokio::test]
async fn colours_follow_the_flag_and_the_environment() {
    let scene = scene_with_trouble().await;
    let gate = hold_blobs(&scene);
    let variables = [("TERM", "xterm"), ("NO_COLOR", "1")];
    let mut terminal = Terminal::start_with(&scene.cli, "sync", (24, 80), &variables);
    terminal.until_says(&["157.0 kB of 300.0 kB"]).await;
    gate.open();
    terminal.ended().await;
    let raw = terminal.raw();
    assert!(raw.contains("\u{1b}[K") && colourless(&raw) == raw, "bars move without colours: {raw:?}");

    let mut scene = scene_with_trouble().await;
    let plain = scene.cli.run("plan").await;
    scene.cli = scene.cli.env("CLICOLOR_FORCE", "1");
    let coloured = scene.cli.run("plan").await;
    assert!(coloured.stdout.contains("\u{1b}[31mfailed\u{1b}[0m"), "{coloured}");
    assert_eq!(colourless(&coloured.stdout), plain.stdout);
}

#[tokio::test]
async fn an_unreachable_target_gives_one_message() {
    let scene = Scene::new().await;
    let mut list = String::new();
    for n in 0..500 {
        list.push_str(&format!("  - ghcr.io/team/service-{n}:1\n"));
    }
    image("any").layer(100).build().push(&scene.source.inside("any"), "1").await;
    // Every repository answers in the same way.
    scene.source.script.always(
        "HEAD",
        "/manifests/",
        Fault::Answer { status: 200, headers: answer(), body: String::new() },
    );
    configure(&scene, &list);
    let text = scene.cli.read("mirror.yaml").expect("it is written");
    // Nothing listens there: the port was free a moment ago, and this test binds no other.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = dead.local_addr().expect("an address").port();
    drop(dead);
    scene.write("mirror.yaml", &text.replace(scene.target.name().as_str(), &format!("127.0.0.1:{port}")));
    let run = scene.cli.run("sync --progress lines").await;
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stdout.contains("500 images:") && run.stdout.contains("… and 497 more (--json lists all)"), "{run}");
    // A status line depends only on the speed of the machine.
    let said = run.stdout.lines().chain(run.stderr.lines()).filter(|line| !line.contains("] still "));
    assert!(said.count() < 15, "{run}");
}

fn answer() -> Vec<(&'static str, String)> {
    let digest = format!("sha256:{}", "1".repeat(64));
    vec![
        ("content-type", "application/vnd.oci.image.manifest.v1+json".to_owned()),
        ("docker-content-digest", digest),
        ("content-length", "500".to_owned()),
    ]
}
