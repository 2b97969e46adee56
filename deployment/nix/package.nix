# The binary, from nixpkgs alone: whoever imports a module by its path builds it with their own packages.
{
  lib,
  rustPlatform,
  stdenv,
  installShellFiles,
}:

let
  manifest = (lib.importTOML ../../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = "person-service";
  inherit (manifest) version;

  # What a build reads. Cargo wants the files of every target that its manifest names, so the tests are among them.
  src = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.unions [
      ../../Cargo.toml
      ../../Cargo.lock
      ../../src
      ../../tests
    ];
  };
  cargoLock.lockFile = ../../Cargo.lock;
  cargoBuildFlags = [
    "--bin"
    "person-service"
  ];

  # The binary prints them, so they are left out where it cannot run on the machine that builds it.
  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/person-service man --out man
    installManPage man/*
    installShellCompletion --cmd person-service \
      --bash <($out/bin/person-service completions bash) \
      --fish <($out/bin/person-service completions fish) \
      --zsh <($out/bin/person-service completions zsh)
  '';

  # They want a nats-server, and some of them systemd or root: `tests/run` is the place for them.
  doCheck = false;

  meta = {
    inherit (manifest) description;
    homepage = manifest.repository;
    license = lib.licenses.mit;
    mainProgram = "person-service";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
