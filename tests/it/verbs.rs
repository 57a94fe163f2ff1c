//! The verbs that send no request: `init`, `schema`, `completions` and `man`.

use crate::support::cli::Cli;

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/m";

#[tokio::test]
async fn init_writes_the_images_as_they_were_given() {
    let cli = Cli::new();
    let run = cli.run("init nginx quay.io/a/b:1 --target harbor.example.com/mirror").await;
    assert_eq!((run.code, run.stdout.as_str()), (0, "wrote mirror.yaml; next: transship check\n"), "{run}");
    let text = cli.read("mirror.yaml").expect("a file");
    insta::assert_snapshot!(text, @r#"
    # The images to mirror, and their target. Next: transship check, plan, sync.
    # Every key: `transship init --full`, or `transship schema`.

    # REGISTRY[/PREFIX], or oci:DIR: nginx becomes harbor.example.com/mirror/docker.io/library/nginx
    target: harbor.example.com/mirror

    images:
      - nginx
      - quay.io/a/b:1
      # Several tags of one repository:
      # - image: docker.io/library/alpine
      #   tags: ["3.20", "3.21"]
      # The newest two tags that a rule selects:
      # - image: quay.io/prometheus/prometheus
      #   select: {semver: ">=2.50, <4", exclude: ["*-rc*"], latest: 2}
      # Pinned by this list, even if the tag moves:
      # - ghcr.io/OWNER/NAME:TAG@sha256:DIGEST

    # Settings by registry. Without credentials here, those of docker login and
    # podman login are used.
    # registries:
    #   docker.io:                               # a login allows more pulls
    #     username: {env: HUB_USER}
    #     password: {env: HUB_TOKEN}
    #     mirrors: [mirror.gcr.io, public.ecr.aws/docker]   # tried first, by digest; reads there cost no pull
    #   harbor.example.com:
    #     username: {env: MIRROR_USER}           # write robot$mirror as it is
    #     password: {env: MIRROR_PASSWORD}       # or {file: /run/secrets/mirror}
    #     ca: ./ca.pem                           # your certificate authority
    "#);
    let again = cli.run("init nginx --target harbor.example.com/mirror").await;
    assert_eq!((again.code, again.stdout.as_str()), (2, ""), "{again}");
    assert!(again.stderr.contains("mirror.yaml exists already\nhint: "), "{again}");
    assert_eq!(cli.read("mirror.yaml"), Some(text), "it is left alone");
}

#[tokio::test]
async fn the_list_that_init_writes_is_valid_for_any_images() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let pinned = format!("ghcr.io/a/b:v1@{digest} python@{digest}");
    for (images, target) in [
        ("", "harbor.example.com/mirror"),
        ("", "localhost:5000"),
        ("null true no 1.27 1e3 0x1f", "[::1]:5000/m"),
        ("[fd00::1]:5000/a:1 127.0.0.1:5000/a nginx:1.10", "127.0.0.1:5000"),
        (&pinned, ECR),
        ("nginx", "docker.io/me"),
    ] {
        let cli = Cli::new();
        let run = cli.run(&format!("init {images} --target {target} -c conf.yaml")).await;
        assert_eq!(run.code, 0, "{run}");
        // A glob that matches nothing is the last check before the first request.
        let run = cli.run("plan -c conf.yaml --no-lock --only nothing").await;
        assert!(run.code == 2 && run.stderr.contains("--only matches no image in conf.yaml"), "{run}");
    }
}

#[tokio::test]
async fn the_lines_that_init_comments_out_are_valid() {
    for target in ["harbor.example.com/mirror", ECR] {
        let cli =
            Cli::new().env("HUB_USER", "u").env("HUB_TOKEN", "t").env("MIRROR_USER", "u").env("MIRROR_PASSWORD", "p");
        let run = cli.run(&format!("init nginx --target {target} -c -")).await;
        assert_eq!((run.code, cli.read("mirror.yaml")), (0, None), "{run}");
        let commented = run.stdout.split_once("# registries:").expect("settings").1;
        let settings: Vec<_> = commented.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
        let images = run.stdout.split_once("\nimages:\n").expect("images").1.split_once("\n\n").expect("an end").0;
        let is_item = |line: &&str| line.starts_with("  # - image:") || line.starts_with("  #   ");
        let images: Vec<_> = images.lines().filter(is_item).map(|line| line.replacen("# ", "", 1)).collect();
        let text =
            format!("target: {target}\nimages:\n  - nginx\n{}\nregistries:{}", images.join("\n"), settings.join("\n"));
        cli.write("mirror.yaml", &text);
        let run = cli.run("plan --only nothing").await;
        assert!(run.stderr.contains("--only matches no image"), "{text}\n{run}");
    }
}

#[tokio::test]
async fn init_names_images_that_it_cant_write() {
    for (line, says) in [
        ("init Nginx --target h.example/m", "error: `Nginx` isn't an image: "),
        ("init https://h.example/a:1 --target h.example/m", "isn't an image: "),
        ("init nginx --target https://h.example/m", "isn't a target: "),
        ("init nginx nginx --target h.example/m", "is also the target of"),
        ("init h.example/m/a:1 --target h.example/m -c no/such/mirror.yaml", "error: can't write no/such/mirror.yaml"),
    ] {
        let cli = Cli::new();
        let run = cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str(), cli.read("mirror.yaml")), (2, "", None), "{run}");
        assert!(run.stderr.contains(says), "no `{says}` in {run}");
    }
}

#[tokio::test]
async fn schema_is_json() {
    let run = Cli::new().run("schema").await;
    let schema: serde_json::Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run}"));
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test]
async fn completions_know_the_verbs_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = Cli::new().run(&format!("completions {shell}")).await;
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
        for word in ["sync", "check", "completions", "dry-run", "only"] {
            assert!(run.stdout.contains(word), "{shell}: no {word}");
        }
    }
}

#[tokio::test]
async fn the_manual_has_all_verbs_on_one_page() {
    let run = Cli::new().run("man").await;
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    for line in [".TH transship 1", ".SH COMMANDS", ".SS transship sync", ".SS transship man", ".SH EXIT STATUS"] {
        assert!(run.stdout.contains(line), "no {line}");
    }
    for option in ["dry\\-run", "keep", "bytes", "no\\-lock", "field"] {
        let told = run.stdout.lines().filter(|line| line.starts_with(&format!("\\fB\\-\\-{option}\\fR")));
        assert_eq!(told.count(), 1, "--{option}");
    }
    assert_eq!(run.stdout.matches(".TH ").count(), 1);
}

#[tokio::test]
async fn the_demo_mirrors_a_signature_and_a_filtered_image_and_verifies_them() {
    let run = Cli::new().run("demo").await;
    assert_eq!(run.code, 0, "{run}");
    for said in [
        "platforms: [linux/amd64]",
        "+1 referrer",
        "5 images, 1 target: 5 up to date",
        "Requests to Docker Hub and Quay: 0\n",
        "5 as pinned; 0 differences",
        "every digest as pinned; signatures found: 1\n",
        "-FROM nginx:1.27\n+FROM 127.0.0.1:",
        "/mirror/docker.io/library/nginx:1.27@sha256:",
        "/mirror/docker.io/library/redis:7.4@sha256:",
    ] {
        assert!(run.stdout.contains(said), "no `{said}` in {run}");
    }
}
