# The service in a container of its own.
#
# On a host it brings the options into every `containers.<name>.config` and leaves the host as it is. In a container, or in
# an image, where `services.cim-domain-person.enable` is set, it is the rest of the machine: network, SSH, tools.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.cim-domain-person;

  natsContext = pkgs.writeText "person-service.json" (
    builtins.toJSON (
      {
        description = "The NATS server of the person service";
        url = cfg.natsUrl;
      }
      // lib.optionalAttrs (cfg.credentialsFile != null) { creds = cfg.credentialsFile; }
    )
  );
in
{
  _class = "nixos";

  imports = [ ./module.nix ];

  # `config` of a container takes any number of modules: one more. A container that is given by `path` instead of `config`
  # has to say `path = lib.mkForce ...`, since it now has both.
  options.containers = lib.mkOption {
    type = lib.types.attrsOf (lib.types.submodule { config.config.imports = [ ./container.nix ]; });
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      services.cim-domain-person.isContainer = true;

      # What one looks for when something is wrong.
      environment.systemPackages = [
        pkgs.htop
        pkgs.natscli
        pkgs.netcat
      ];
      systemd.tmpfiles.rules = [
        # `pct exec` comes with the PATH of the Proxmox host.
        "L /usr/local/bin - - - - /run/current-system/sw/bin"
        # `nats context select` finds the server of the service, `nats sub` uses it.
        "L+ /root/.config/nats/context/person-service.json - - - - ${natsContext}"
        "f /root/.config/nats/context.txt 0644 - - - person-service"
      ];

      users.users.root.openssh.authorizedKeys.keys = cfg.sshKeys;
      services.openssh = {
        settings = {
          PermitRootLogin = "prohibit-password";
          PasswordAuthentication = false;
          KbdInteractiveAuthentication = false;
        };
        openFirewall = true;
      };
    })

    (lib.mkIf (cfg.enable && cfg.sshKeys != [ ]) { services.openssh.enable = true; })

    (lib.mkIf (cfg.enable && cfg.nameservers != [ ]) {
      networking.nameservers = cfg.nameservers;
      networking.useHostResolvConf = false;
    })

    (lib.mkIf (cfg.enable && cfg.containerIp != null) {
      networking.useDHCP = false;
      networking.interfaces.eth0.ipv4.addresses = [
        {
          address = cfg.containerIp;
          inherit (cfg) prefixLength;
        }
      ];
      networking.defaultGateway = {
        address = cfg.gateway;
        interface = "eth0";
      };
    })

    {
      # An address that is given here goes before the one that Proxmox hands in.
      image.modules.proxmox-lxc =
        { config, ... }:
        let
          service = config.services.cim-domain-person;
        in
        {
          proxmoxLXC.manageNetwork = service.containerIp != null;
          # The name stays the one that `--hostname` gave: replicas of one image differ by it.
          networking.hostName = lib.mkIf (service.containerIp != null) (lib.mkOverride 1400 "");
          # Two services, or two releases of nixpkgs, are two files in the template store of Proxmox.
          image.baseName = "nixos-system-person-service-${config.system.nixos.version}-${service.package.version}";
          # Proxmox knows by this file what is in an image; NixOS itself makes it only when it starts.
          system.build.image = lib.mkForce (
            config.system.build.tarball.override (previous: {
              contents = previous.contents ++ [
                {
                  source = config.environment.etc.os-release.source;
                  target = "/etc/os-release";
                }
              ];
            })
          );
        };
    }
  ];
}
