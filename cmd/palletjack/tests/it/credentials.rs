//! Logins: found where Docker's client keeps them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use palletjack_testkit::registry::{Auth, Registry};

use crate::machine::{Machine, small_set};

/// `pi:raspberry` in base64, as `docker login` writes it.
const LOGIN: &str = "cGk6cmFzcGJlcnJ5";
/// `pi:wrong`.
const WRONG: &str = "cGk6d3Jvbmc=";

fn scene(auth: Auth) -> (Machine, Registry) {
    let (machine, registry) = (Machine::new(), Registry::start_with_auth(auth).unwrap());
    machine.pallet_in(&registry, small_set());
    (machine, registry)
}

fn log_in(machine: &Machine, registry: &Registry, login: &str) {
    let config = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{login}\"}}}}}}", registry.host());
    machine.sandbox.write(".docker/config.json", config).unwrap();
}

#[test]
fn a_login_of_docker_is_used() {
    for auth in [Auth::basic("pi", "raspberry"), Auth::tokens("pi", "raspberry")] {
        let (machine, registry) = scene(auth);
        log_in(&machine, &registry, LOGIN);
        machine.run("plt cache-img").assert_success();
        machine.assert_verified(4);
    }
}

#[test]
fn public_images_need_none() {
    let (machine, registry) = scene(Auth::anonymous_tokens());
    machine.run("plt cache-img").assert_success();
    assert!(registry.tokens_issued() > 0);
    machine.assert_verified(4);
}

#[test]
fn tokens_that_run_out_midway_are_renewed() {
    let (machine, registry) = scene(Auth::tokens("pi", "raspberry").uses_per_token(3));
    log_in(&machine, &registry, LOGIN);
    machine.run("plt cache-img").assert_success();
    machine.assert_verified(4);
}

#[test]
fn docker_config_says_where_logins_are() {
    let (mut machine, registry) = scene(Auth::basic("pi", "raspberry"));
    log_in(&machine, &registry, LOGIN);
    let elsewhere = machine.sandbox.root().join("elsewhere");
    fs::rename(machine.sandbox.home().join(".docker"), &elsewhere).unwrap();
    machine.run("plt cache-img").assert_code(4);
    machine.set("DOCKER_CONFIG", &elsewhere);
    machine.run("plt cache-img").assert_success();
}

#[test]
fn a_credential_helper_is_asked() {
    let (mut machine, registry) = scene(Auth::tokens("pi", "raspberry"));
    let config = format!("{{\"credHelpers\": {{\"{}\": \"vault\"}}}}", registry.host());
    machine.sandbox.write(".docker/config.json", config).unwrap();
    let asked = machine.sandbox.root().join("asked");
    let script = format!(
        "#!/bin/sh\nread server\necho \"$1 $server\" >> {}\n\
         echo '{{\"ServerURL\": \"x\", \"Username\": \"pi\", \"Secret\": \"raspberry\"}}'\n",
        asked.display()
    );
    let helper = machine.sandbox.write("bin/docker-credential-vault", script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = machine.run("plt cache-img");
    ran.assert_code(4);
    assert!(ran.stderr.contains("docker-credential-vault"), "the helper that is missing is named: {ran}");
    let path = format!("{}:{}", helper.parent().unwrap().display(), std::env::var("PATH").unwrap());
    machine.set("PATH", path);
    machine.run("plt cache-img").assert_success();
    let asked = fs::read_to_string(asked).unwrap();
    assert_eq!(asked.lines().next().unwrap(), format!("get {}", registry.host()));
    machine.assert_verified(4);
}

#[test]
fn without_a_login_it_says_what_to_do() {
    for auth in [Auth::basic("pi", "raspberry"), Auth::tokens("pi", "raspberry")] {
        let (machine, registry) = scene(auth);
        let ran = machine.run("plt cache-img");
        ran.assert_code(4);
        assert!(ran.stderr.contains(&format!("`docker login {}`", registry.host())), "{ran}");
        assert!(ran.stderr.contains("app-0"), "{ran}");
    }
}

#[test]
fn a_login_that_is_refused_is_told_and_never_shown() {
    let (machine, registry) = scene(Auth::tokens("pi", "raspberry"));
    log_in(&machine, &registry, WRONG);
    let ran = machine.run("plt cache-img -vv");
    ran.assert_code(4);
    assert!(ran.stderr.contains("refused") && ran.stderr.contains("docker login"), "{ran}");
    assert!(!ran.stderr.contains("cGk6") && !ran.stderr.contains("wrong\""), "{ran}");
    log_in(&machine, &registry, LOGIN);
    let ran = machine.run("plt cache-img -vv");
    ran.assert_success();
    assert!(
        !ran.stderr.contains("raspberry") && !ran.stderr.contains("token-1"),
        "a secret is in the log: {ran}"
    );
}
