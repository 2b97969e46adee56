# The service on NixOS: the unit says the same as systemd/cim-domain-person.service, which a test compares.
{
  config,
  lib,
  ...
}:

let
  cfg = config.services.cim-domain-person;

  # What an admin may write by hand on a running machine; the image of a container can be told its NATS server by it.
  local = "/etc/cim-domain-person/environment";

  # A percent sign begins a specifier of systemd; in a URL it is a percent sign.
  literal = builtins.replaceStrings [ "%" ] [ "%%" ];

  # Any of these can be set plainly in systemd.services.cim-domain-person.serviceConfig.
  defaults = builtins.mapAttrs (_: lib.mkDefault);
in
{
  _class = "nixos";

  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable {
    systemd.services.cim-domain-person = {
      description = "Person service: commands over NATS, events in JetStream";
      documentation = [ "https://github.com/thecowboyai/cim-domain-person" ];
      wantedBy = [ "multi-user.target" ];
      # It waits for NATS by itself. The order is for the way out: the network and a server on this machine outlive the
      # drain.
      after = [
        "network.target"
        "nats-server.service"
        "nats.service"
      ];
      # It is never given up: NATS may be away for as long as it takes somebody to mend it.
      startLimitIntervalSec = 0;

      environment =
        builtins.mapAttrs (_: literal) cfg.environment
        // {
          # Where SIGHUP reads LOG_LEVEL again.
          ENVIRONMENT_FILE = local;
        }
        // lib.optionalAttrs (cfg.credentialsFile != null) { NATS_CREDS = "%d/nats.creds"; };

      serviceConfig =
        defaults {
          Type = "notify";
          NotifyAccess = "main";
          ExecStart = "${lib.getExe cfg.package} run";
          ExecReload = "/bin/sh -c 'kill -HUP $MAINPID'";
          EnvironmentFile = [ "-${local}" ] ++ lib.optional (cfg.environmentFile != null) cfg.environmentFile;

          # It is started when a command would be answered, and that takes as long as NATS is away.
          TimeoutStartSec = "infinity";
          # Above DRAIN_TIMEOUT (10s) and what leaving takes beyond it. Whoever raises the one raises the other.
          TimeoutStopSec = "20s";
          KillMode = "mixed";
          WatchdogSec = "30s";
          Restart = "always";
          RestartSec = "2s";
          # Bad usage, a refused sign-in, a bad configuration: these need a person, not another try.
          RestartPreventExitStatus = "64 77 78";

          DynamicUser = true;
          UMask = "0077";
          # A core has personal data in it.
          LimitCORE = 0;
          ProtectSystem = "strict";
          ProtectHome = true;
          PrivateTmp = true;
          PrivateDevices = true;
          PrivateUsers = true;
          PrivateIPC = true;
          PrivateMounts = true;
          # What ProtectSystem leaves writable for everybody.
          ReadOnlyPaths = "-/run -/tmp -/var/tmp -/dev/shm -/dev/mqueue -/dev/hugepages";
          RemoveIPC = true;
          DevicePolicy = "closed";
          ProtectProc = "invisible";
          ProcSubset = "pid";
          ProtectClock = true;
          ProtectControlGroups = true;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
          CapabilityBoundingSet = "";
          AmbientCapabilities = "";
          NoNewPrivileges = true;
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictSUIDSGID = true;
          SystemCallArchitectures = "native";
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
          ];
          SystemCallErrorNumber = "EPERM";
        }
        // lib.optionalAttrs (cfg.credentialsFile != null) {
          LoadCredential = lib.mkDefault [ "nats.creds:${cfg.credentialsFile}" ];
        };
    };
  };
}
