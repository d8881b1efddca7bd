//! Tags that are signed, on commits that nobody has signed.

use super::*;

fn tag(world: &World, name: &str, options: &[&str]) {
    world.git(&[&["tag"], options, &["-m", "release", name]].concat());
}

fn source(world: &World, name: &str, settings: &GitSettings) -> GitSource {
    world.source(&format!("?ref=refs/tags/{name}"), settings)
}

#[tokio::test]
async fn a_tag_that_a_trusted_ssh_key_signed_vouches_for_its_commit() {
    let world = World::new();
    let (alice, _mallory) = (world.ssh_key("alice"), world.ssh_key("mallory"));
    world.commit("one", &[]);
    world.sign_with_ssh("alice");
    tag(&world, "v1", &["-s"]);
    let trusting = signers(&alice);
    let fetched = source(&world, "v1", &trusting).fetch(None).await.unwrap();
    assert_eq!(fetched.text, b"one");
    let signature = fetched.provenance.signature.unwrap();
    assert_eq!((signature.format, signature.signer.as_str()), (SignatureFormat::Ssh, "alice@example.com"));
    assert!(signature.key.starts_with("SHA256:"), "{}", signature.key);

    tag(&world, "unsigned", &["-a"]);
    assert_eq!(text(&source(&world, "unsigned", &trusting), None).await, Err(Reason::Unsigned));
    world.git(&["tag", "light"]);
    assert_eq!(text(&source(&world, "light", &trusting), None).await, Err(Reason::Unsigned));
    world.sign_with_ssh("mallory");
    tag(&world, "by-mallory", &["-s"]);
    assert_eq!(text(&source(&world, "by-mallory", &trusting), None).await, Err(Reason::Untrusted));
    assert_eq!(
        text(&world.source("?ref=main", &trusting), None).await,
        Err(Reason::Unsigned),
        "a branch is no tag"
    );
}

#[tokio::test]
async fn a_tag_that_a_trusted_openpgp_key_signed_vouches_for_its_commit() {
    let world = World::new();
    let keyring = world.openpgp_key("carol");
    world.commit("one", &[]);
    tag(&world, "v1", &["-s"]);
    let settings = GitSettings { git_keyring: Some(keyring), ..GitSettings::default() };
    let signature = source(&world, "v1", &settings).fetch(None).await.unwrap().provenance.signature.unwrap();
    assert_eq!(
        (signature.format, signature.signer.as_str()),
        (SignatureFormat::Openpgp, "carol <carol@example.com>")
    );
    world.openpgp_key("mallory");
    tag(&world, "v2", &["-s"]);
    assert_eq!(text(&source(&world, "v2", &settings), None).await, Err(Reason::Untrusted));
    world.ssh_key("alice");
    world.sign_with_ssh("alice");
    tag(&world, "v3", &["-s"]);
    assert_eq!(text(&source(&world, "v3", &settings), None).await, Err(Reason::Untrusted));
}

#[tokio::test]
async fn a_signed_tag_under_another_name_or_on_another_commit_is_worth_nothing() {
    let world = World::new();
    let alice = world.ssh_key("alice");
    world.sign_with_ssh("alice");
    let old = world.commit("old", &["--no-gpg-sign"]);
    tag(&world, "v1", &["-s"]);
    let v1 = world.git(&["rev-parse", "v1"]);
    let new = world.commit("new", &["--no-gpg-sign"]);
    world.git(&["update-ref", "refs/tags/v2", &v1]);
    let error = source(&world, "v2", &signers(&alice)).fetch(None).await.unwrap_err();
    assert_eq!(error.reason, Reason::Untrusted);
    assert!(error.why.contains("signed as the tag v1"), "{error}");

    let forged = world.git(&["cat-file", "tag", "v1"]).replace(&old, &new) + "\n";
    fs::write(world.path("forged"), forged).unwrap();
    let forged = world.git(&["hash-object", "-t", "tag", "-w", world.path("forged").to_str().unwrap()]);
    world.git(&["update-ref", "refs/tags/v1", &forged]);
    assert_eq!(text(&source(&world, "v1", &signers(&alice)), None).await, Err(Reason::Untrusted));
}
