# What the modules amount to, for tests/it/nix.rs to compare with the documents, the binary and the systemd unit.
let
  lib = import ./lib.nix;

  pkgs = {
    callPackage = _: _: {
      outPath = "/package";
      version = "0";
    };
    htop = "htop";
    natscli = "natscli";
    netcat = "netcat";
    writeText = name: _: "/store/${name}";
    writeShellScript = name: text: "/store/${name}\n${text}";
  };

  evaluate =
    module: settings:
    lib.evaluate {
      inherit pkgs;
      modules = [
        module
        { services.cim-domain-person = settings; }
      ];
    };

  module = ../../deployment/nix/module.nix;
  container = ../../deployment/nix/container.nix;
  darwin = ../../deployment/nix/darwin.nix;

  everything = {
    enable = true;
    natsUrl = "nats://u:p%40@localhost:4222";
    streamReplicas = 3;
    jetstreamDomain = "hub";
    subjectPrefix = "person.eu";
    workers = 4;
    credentialsFile = "/etc/nats.creds";
    environmentFile = "/run/secrets/environment";
    extraSettings = {
      COMMAND_TIMEOUT = "9s";
      METRICS_ADDR = "127.0.0.1:9464";
      STREAM_CREATE = false;
    };
    containerIp = "10.0.64.140";
    sshKeys = [ "ssh-ed25519 AAAA user@host" ];
  };

  tables =
    options:
    builtins.mapAttrs (_: option: {
      inherit (option) type;
      default = if option.type == "package" then null else option.default or null;
      internal = option.internal or false;
    }) (plain options.services.cim-domain-person);

  # Those that stand in a set of their own by their whole name.
  plain =
    options:
    builtins.listToAttrs (
      builtins.concatMap (
        name:
        if options.${name} ? _option then
          [
            {
              inherit name;
              value = options.${name};
            }
          ]
        else
          map (inner: {
            name = "${name}.${inner}";
            value = options.${name}.${inner};
          }) (builtins.attrNames options.${name})
      ) (builtins.attrNames options)
    );

  unit = evaluated: evaluated.config.systemd.services.cim-domain-person;
  nightly = settings: {
    service = (evaluate module settings).config.systemd.services.cim-domain-person-verify;
    timer = (evaluate module settings).config.systemd.timers.cim-domain-person-verify;
  };
  daemon = evaluated: evaluated.config.launchd.daemons.cim-domain-person;

  # What is set of the system beyond our own options; what a condition left empty does not count.
  own =
    evaluated:
    filled (
      removeAttrs evaluated.config [ "image" ]
      // {
        services = removeAttrs evaluated.config.services [ "cim-domain-person" ];
      }
    );
  filled =
    set:
    let
      inner = builtins.mapAttrs (_: value: if builtins.isAttrs value then filled value else value) set;
    in
    removeAttrs inner (builtins.filter (name: inner.${name} == { }) (builtins.attrNames inner));

  on = {
    enable = true;
  };
  contained = evaluate container everything;

  # What the package asks of nixpkgs, on a machine that runs what it builds, or builds for another.
  package =
    runs:
    import ../../deployment/nix/package.nix {
      inherit lib;
      rustPlatform.buildRustPackage =
        attributes: attributes // { cargoLock = baseNameOf attributes.cargoLock.lockFile; };
      stdenv = {
        buildPlatform.canExecute = _: runs;
        hostPlatform = { };
      };
      installShellFiles = "installShellFiles";
    };
in
{
  options = {
    module = tables (evaluate module { }).options;
    container = tables (evaluate container { }).options;
    darwin = tables (evaluate darwin { }).options;
  };
  classes = {
    module = (evaluate module { }).classes;
    container = (evaluate container { }).classes;
    darwin = (evaluate darwin { }).classes;
  };

  unit = unit (evaluate module on);
  fullUnit = unit (evaluate module everything);
  verify = nightly { verify.enable = true; };
  fullVerify = nightly (
    everything
    // {
      verify = {
        enable = true;
        onCalendar = "Sun 04:00";
      };
    }
  );

  # What an import alone does to a machine: nothing but the options.
  inert = {
    module = own (evaluate module { });
    container = own (evaluate container { });
    darwin = own (evaluate darwin { });
  };
  brought =
    map baseNameOf
      (evaluate container { }).options.containers.type._submodule.config.config.imports;

  container = {
    inherit (contained.config) networking users warnings;
    ssh = contained.config.services.openssh;
    tools = contained.config.environment.systemPackages;
  };
  containerByDefault = own (evaluate container on);
  warned = {
    module = (evaluate module everything).config.warnings;
    darwin = (evaluate darwin everything).config.warnings;
  };

  package = package true;
  packageForAnother = package false;

  darwin = daemon (evaluate darwin on);
  fullDarwin = daemon (evaluate darwin everything);
}
