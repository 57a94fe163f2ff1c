use super::*;

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    Cli::read(line.split(' ')).map_err(|error| {
        assert_eq!(error.exit_code(), if error.use_stderr() { 2 } else { 0 });
        error.kind()
    })
}

#[test]
fn the_command_definition_is_valid() {
    Cli::command().debug_assert();
}

#[test]
fn the_next_command_is_about_the_same() {
    let again = |words: &[&str]| {
        let given = Cli::read(words).unwrap().given;
        given.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(again(&["transship", "--lock", "b.lock", "sync", "-c", "a.yaml"]), "-c a.yaml --lock b.lock");
    assert_eq!(again(&["transship", "check", "--only", "a/*", "--only", "it's"]), r"--only 'a/*' --only 'it'\''s'");
    for line in [
        "sync",
        "sync --update --target oci:disk --only nginx --only quay.io/a/b:1",
        "sync --locked --from oci:disk",
        "plan -c a.yaml --no-lock --bytes --repair --target a/b --from oci:c",
        "verify --deep --content --extra --target a/b --only nginx",
        "update nginx quay.io/a/b:1",
    ] {
        let words: Vec<_> = std::iter::once("transship").chain(line.split(' ')).collect();
        assert_eq!(again(&words), words[2..].join(" "));
    }
    let given = Cli::read("transship plan --bytes --only a --no-lock --json -j 3".split(' ')).unwrap().given;
    let accept = |verb: &str| {
        let accepted = given.iter().filter(|(verbs, _)| verbs.iter().any(|one| one == verb));
        accepted.map(|(_, words)| words.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        ["plan", "sync", "update"].map(accept),
        ["--no-lock --bytes --only a", "--no-lock --only a", "--no-lock"]
    );
}

#[test]
fn conflicting_flags_are_refused() {
    for line in [
        "transship sync --locked --update",
        "transship sync --locked --no-lock",
        "transship --no-lock sync --locked",
        "transship sync --no-lock --update",
        "transship sync --from oci:dir --update",
        "transship sync --no-lock --lock x.lock",
        "transship --lock x.lock sync --no-lock",
        "transship --no-lock --lock x.lock plan",
    ] {
        assert_eq!(parse(line).unwrap_err(), ErrorKind::ArgumentConflict, "{line}");
    }
    for line in [
        "transship -c - sync",
        "transship -c - check",
        "transship -c - verify",
        "transship init",
        "transship completions csh",
        "transship sync -j 0",
        "transship sync -j -1",
        "transship --progress tui sync",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    for line in [
        "transship sync --locked --lock x.lock --only a/* --only b:1 --dry-run",
        "transship sync --update --lock x.lock",
        "transship sync --target oci:dir --from oci:other --locked",
        "transship --no-lock sync",
        "transship --no-cache sync --locked",
        "transship copy a h.example/a --no-cache",
        "transship -c - --no-lock plan --check --bytes --only *",
        "transship lock --check --lock x.lock",
        "transship update nginx ghcr.io/a/b:1",
        "transship copy nginx:1.27 localhost:5000/nginx -j4 -vv --json",
        "transship demo --keep --color=never --progress none -q",
        "transship check --only a/* --lock x.lock --json",
        "transship verify --deep --content --extra --only a/* --lock x.lock --json -q",
        "transship init --target h.example/m nginx:1.27 quay.io/a/b:1 -c -",
        "transship export containerd --microk8s -o dir --target 2",
        "transship export --list --json",
        "transship schema",
        "transship completions zsh",
        "transship man",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn global_flags_work_before_and_after_the_verb() {
    let cli = parse("transship -vvc a.yaml sync --quiet -j 3").unwrap();
    assert_eq!((cli.global.config(), cli.global.verbose, cli.global.quiet), (Path::new("a.yaml"), 2, true));
    assert_eq!(cli.global.jobs.map(NonZeroUsize::get), Some(3));
    assert_eq!(parse("transship demo").unwrap().global.config(), Path::new("mirror.yaml"));
}

#[test]
fn help() {
    let mut command = Cli::command();
    command.build();
    let verbs: Vec<_> = command.get_subcommands().cloned().collect();
    let all = std::iter::once(command.clone()).chain(verbs);
    let texts = all.map(|mut command| format!("{}{}", command.render_help(), command.render_long_help()));
    let text = texts.collect::<String>();
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    insta::assert_snapshot!(command.render_help().to_string(), @"
    Mirrors container images into a private registry

    Usage: transship [OPTIONS] <COMMAND>

    Commands:
      sync         Mirror what the lock pins; pin what it lacks first
      plan         Show what sync would do and what it would cost
      lock         Pin what the lock lacks; copy nothing
      update       Move pins to what upstream serves now; copy nothing
      copy         Copy one image; needs no configuration
      check        Check that a sync can work; copy nothing
      verify       Compare the targets with the lock; change nothing
      quota        Show what is left of the sources' pull quotas
      init         Write a first mirror.yaml
      discover     List the images that files refer to
      rewrite      Make files pull from the mirror
      export       Write configuration for clients of the mirror
      warm         Fill pull-through caches with what the lock pins
      demo         Mirror a few images on this machine, as a demo
      schema       Print the JSON schema of mirror.yaml or of the reports
      completions  Print completions for a shell
      man          Print the man page
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Options of every verb:
      -c, --config <FILE>   What to mirror; - is stdin [default: mirror.yaml]
          --lock <FILE>     The lock file [default: mirror.lock]
          --no-lock         Read and write no lock; resolve every image again
          --no-cache        Don't use the manifest cache
      -j, --jobs <N>        Copy at most N blobs at a time
          --json            Print one JSON document instead of text
          --report <FILE>   Also write the JSON document to FILE
      -q, --quiet           Print only failures and the summary
      -v, --verbose...      Print more: -v requests, -vv headers, -vvv everything
          --color <WHEN>    Use colours: auto, always or never
          --progress <HOW>  Show progress as: auto, bars, lines or none

    Examples:
      transship init nginx:1.27 --target harbor.example.com/mirror
      transship check                check that a sync can work; copy nothing
      transship plan                 show what sync would do and what it would cost
      transship sync                 mirror what mirror.lock pins
      transship sync --update        first move the pins to what upstream serves
      transship sync --locked        for CI: fail if mirror.lock isn't complete
      transship verify --deep        compare the mirror with mirror.lock
      transship copy nginx:1.27 harbor.example.com/mirror/nginx
      transship discover .           list the images that these files refer to
      transship rewrite . --pin      make them pull from the mirror, by digest
      transship export containerd    make a node pull from the mirror
      transship demo                 see it work, on this machine only
    ");
}
