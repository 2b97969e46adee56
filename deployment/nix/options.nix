# The options of services.cim-domain-person, the same on NixOS, in containers and on macOS.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkEnableOption mkOption types;

  # A path of the running system, as a string: a Nix path would be copied into the store, which everybody can read.
  file = types.strMatching "/.*";

  cfg = config.services.cim-domain-person;

  text = value: if builtins.isBool value then lib.boolToString value else toString value;
in
{
  options.services.cim-domain-person = {
    enable = mkEnableOption "the person service";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package that the service runs.";
    };

    natsUrl = mkOption {
      type = types.str;
      default = "nats://10.0.0.41:4222";
      example = "tls://nats-1.example.com,tls://nats-2.example.com";
      description = "NATS server URL, or several of one cluster, separated by commas.";
    };

    streamName = mkOption {
      type = types.str;
      default = "PERSON_EVENTS";
      description = "JetStream stream that holds the events.";
    };

    streamReplicas = mkOption {
      type = types.enum [
        1
        3
        5
      ];
      default = 1;
      description = "Copies of the stream, when the service creates it.";
    };

    jetstreamDomain = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "hub";
      description = "JetStream domain, where the stream lies behind a leaf node.";
    };

    subjectPrefix = mkOption {
      type = types.str;
      default = "person";
      example = "person.eu";
      description = "First tokens of every subject of the service.";
    };

    logLevel = mkOption {
      type = types.enum [
        "trace"
        "debug"
        "info"
        "warn"
        "error"
      ];
      default = "info";
      description = "The least severe level to log.";
    };

    snapshotFrequency = mkOption {
      type = types.ints.positive;
      default = 100;
      description = "Events of a person between two snapshots.";
    };

    workers = mkOption {
      type = types.nullOr (types.ints.between 1 256);
      default = null;
      description = "Threads of the pool; null takes their number from the cores.";
    };

    credentialsFile = mkOption {
      type = types.nullOr file;
      default = null;
      example = "/etc/cim-domain-person/nats.creds";
      description = ''
        NATS credentials file (JWT and key) of the machine that the service runs on. It may belong to root alone on Linux;
        on macOS the service's user must be able to read it. It is never copied into the Nix store.
      '';
    };

    environmentFile = mkOption {
      type = types.nullOr file;
      default = null;
      example = "/run/secrets/person-service.env";
      description = ''
        File of NAME=value lines for what the Nix store must not hold, such as NATS_TOKEN. It goes before all other
        options. It must exist. On macOS a shell reads it, as the service's user.
      '';
    };

    extraSettings = mkOption {
      type = types.attrsOf (
        types.oneOf [
          types.str
          types.int
          types.bool
        ]
      );
      default = { };
      example = {
        COMMAND_TIMEOUT = "10s";
        STREAM_CREATE = false;
      };
      description = ''
        Further environment variables of docs/configuration.md. They go before the other options, except the files.
      '';
    };

    containerIp = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "10.0.64.140";
      description = ''
        Static IPv4 address of the container. null leaves the network to who starts the container: Proxmox by its
        configuration, NixOS by localAddress.
      '';
    };

    gateway = mkOption {
      type = types.str;
      default = "10.0.64.1";
      description = "Default gateway of the container, where containerIp is set.";
    };

    prefixLength = mkOption {
      type = types.ints.between 0 32;
      default = 19;
      description = "Network prefix length that goes with containerIp.";
    };

    nameservers = mkOption {
      type = types.listOf types.str;
      default = [
        "10.0.0.254"
        "1.1.1.1"
      ];
      description = "DNS servers of the container; an empty list leaves them to who starts the container.";
    };

    sshKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3Nz... user@host" ];
      description = "SSH public keys that may log in to the container as root.";
    };

    isContainer = mkOption {
      type = types.bool;
      default = false;
      internal = true;
      description = "Whether this machine is the service's own container, whose network and login are ours to set up.";
    };

    environment = mkOption {
      type = types.attrsOf types.str;
      internal = true;
      readOnly = true;
      description = "The environment that the options amount to, before any quoting.";
    };
  };

  config = {
    services.cim-domain-person.environment = builtins.mapAttrs (_: text) (
      {
        NATS_URL = cfg.natsUrl;
        STREAM_NAME = cfg.streamName;
        STREAM_REPLICAS = cfg.streamReplicas;
        SUBJECT_PREFIX = cfg.subjectPrefix;
        LOG_LEVEL = cfg.logLevel;
        SNAPSHOT_FREQ = cfg.snapshotFrequency;
      }
      // lib.optionalAttrs (cfg.jetstreamDomain != null) { JETSTREAM_DOMAIN = cfg.jetstreamDomain; }
      // lib.optionalAttrs (cfg.workers != null) { WORKERS = cfg.workers; }
      // cfg.extraSettings
    );

    warnings =
      lib.mkIf (cfg.enable && !cfg.isContainer && (cfg.containerIp != null || cfg.sshKeys != [ ]))
        [
          ''
            services.cim-domain-person: containerIp and sshKeys have no effect here, since the network and the login of this
            machine are its own. They are for the service's own container: deployment/nix/container.nix.
          ''
        ];
  };
}
