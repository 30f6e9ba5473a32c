// Every flag of `service create` and `service update`.

import type { Flag, FlagType } from '../command.ts'
import {
  bytesType,
  cpusType,
  durationType,
  environmentType,
  floatType,
  intType,
  labelType,
  listType,
  parsed,
  positiveDurationType,
  switchType,
  textType,
  uintType,
} from '../flags.ts'
import { parseMount } from './mount.ts'
import { parsePorts } from './ports.ts'
import {
  checkGenericResource,
  normalizeDnsSearch,
  normalizeExtraHost,
  normalizeIp,
  parseConfig,
  parseCredentialSpec,
  parseNetwork,
  parsePlacementPreference,
  parseSecret,
  parseUlimit,
  parseWords,
} from './values.ts'

const UNITS = '(ns|us|ms|s|m|h)'
const HEALTH_UNITS = '(ms|s|m|h)'

const commandType = parsed('command', parseWords)
const mountType = parsed('mount', parseMount)
const portType = parsed('port', parsePorts)
const secretType = parsed('secret', parseSecret)
const configType = parsed('config', parseConfig)
const networkType = parsed('network', parseNetwork)
const ulimitType = parsed('ulimit', parseUlimit)
const preferenceType = parsed('pref', parsePlacementPreference)
const genericType = parsed('list', checkGenericResource)
const hostType: FlagType = { name: 'list', accept: normalizeExtraHost }
const ipType: FlagType = { name: 'list', accept: normalizeIp }
const searchType: FlagType = { name: 'list', accept: normalizeDnsSearch }
const optionType: FlagType = environmentType

export const detachFlag: Flag = {
  name: 'detach',
  short: 'd',
  type: switchType,
  help: 'Exit immediately instead of waiting for the service to converge',
}
export const quietProgressFlag: Flag = {
  name: 'quiet',
  short: 'q',
  type: switchType,
  help: 'Suppress progress output',
}

function updateFlags(prefix: 'update' | 'rollback', creating: boolean): Flag[] {
  const update = prefix === 'update'
  const shown = (value: string) => (creating ? { shownDefault: value } : {})
  return [
    {
      name: `${prefix}-delay`,
      type: durationType,
      help: update ? `Delay between updates ${UNITS}` : `Delay between task rollbacks ${UNITS}`,
      ...shown('0s'),
    },
    {
      name: `${prefix}-failure-action`,
      type: textType,
      help: update
        ? 'Action on update failure ("pause", "continue", "rollback")'
        : 'Action on rollback failure ("pause", "continue")',
      ...shown('"pause"'),
      complete: update ? ['pause', 'continue', 'rollback'] : ['pause', 'continue'],
    },
    {
      name: `${prefix}-max-failure-ratio`,
      type: floatType,
      help: `Failure rate to tolerate during ${update ? 'an update' : 'a rollback'}`,
      ...shown('0'),
    },
    {
      name: `${prefix}-monitor`,
      type: durationType,
      help: `Duration after each task ${prefix} to monitor for failure ${UNITS}`,
      ...shown('5s'),
    },
    {
      name: `${prefix}-order`,
      type: textType,
      help: `${update ? 'Update' : 'Rollback'} order ("start-first", "stop-first")`,
      ...shown('"stop-first"'),
      complete: ['start-first', 'stop-first'],
    },
    {
      name: `${prefix}-parallelism`,
      type: uintType,
      help: update
        ? 'Maximum number of tasks updated simultaneously (0 to update all at once)'
        : 'Maximum number of tasks rolled back simultaneously (0 to roll back all at once)',
      ...shown('1'),
    },
  ]
}

/** What create and update share; only create tells defaults, because update leaves what is not named as it is. */
function commonFlags(creating: boolean): Flag[] {
  const shown = (value: string) => (creating ? { shownDefault: value } : {})
  return [
    detachFlag,
    quietProgressFlag,
    { name: 'cap-add', type: listType, help: 'Add Linux capabilities', since: '1.41' },
    { name: 'cap-drop', type: listType, help: 'Drop Linux capabilities', since: '1.41' },
    {
      name: 'credential-spec',
      type: parsed('credential-spec', parseCredentialSpec),
      help: 'Credential spec for managed service account (Windows only)',
    },
    {
      name: 'endpoint-mode',
      type: textType,
      help: 'Endpoint mode (vip or dnsrr)',
      ...shown('"vip"'),
      complete: ['vip', 'dnsrr'],
    },
    { name: 'entrypoint', type: commandType, help: 'Overwrite the default ENTRYPOINT of the image' },
    { name: 'health-cmd', type: textType, help: 'Command to run to check health' },
    { name: 'health-interval', type: positiveDurationType, help: `Time between running the check ${HEALTH_UNITS}` },
    { name: 'health-retries', type: intType, help: 'Consecutive failures needed to report unhealthy' },
    {
      name: 'health-start-interval',
      type: positiveDurationType,
      help: `Time between running the check during the start period ${HEALTH_UNITS}`,
      since: '1.44',
    },
    {
      name: 'health-start-period',
      type: positiveDurationType,
      help: `Start period for the container to initialize before counting retries towards unstable ${HEALTH_UNITS}`,
    },
    {
      name: 'health-timeout',
      type: positiveDurationType,
      help: `Maximum time to allow one check to run ${HEALTH_UNITS}`,
    },
    { name: 'hostname', type: textType, help: 'Container hostname' },
    {
      name: 'init',
      type: switchType,
      help: 'Use an init inside each service container to forward signals and reap processes',
    },
    { name: 'isolation', type: textType, help: 'Service container isolation mode' },
    { name: 'limit-cpu', type: cpusType, help: 'Limit CPUs' },
    { name: 'limit-memory', type: bytesType, help: 'Limit Memory' },
    {
      name: 'limit-pids',
      type: intType,
      help: 'Limit maximum number of processes (default 0 = unlimited)',
      since: '1.41',
    },
    { name: 'log-driver', type: textType, help: 'Logging driver for service' },
    { name: 'log-opt', type: optionType, help: 'Logging driver options' },
    {
      name: 'max-concurrent',
      type: uintType,
      help: 'Number of job tasks to run concurrently (default equal to --replicas)',
      since: '1.41',
    },
    {
      name: 'memory-swap',
      type: parsed('bytes', (text) => (text === '-1' ? -1 : bytesType.accept(text, {}))),
      help: 'Swap Bytes (-1 for unlimited)',
      since: '1.52',
    },
    {
      name: 'memory-swappiness',
      type: intType,
      help: 'Tune memory swappiness (0-100), -1 to reset to default',
      since: '1.52',
    },
    { name: 'no-healthcheck', type: switchType, help: 'Disable any container-specified HEALTHCHECK' },
    {
      name: 'no-resolve-image',
      type: switchType,
      help: 'Do not query the registry to resolve image digest and supported platforms',
    },
    {
      name: 'oom-score-adj',
      type: intType,
      help: "Tune host's OOM preferences (-1000 to 1000)",
      since: '1.46',
    },
    { name: 'read-only', type: switchType, help: "Mount the container's root filesystem as read only" },
    { name: 'replicas', type: uintType, help: 'Number of tasks' },
    {
      name: 'replicas-max-per-node',
      type: uintType,
      help: 'Maximum number of tasks per node (default 0 = unlimited)',
      since: '1.40',
    },
    { name: 'reserve-cpu', type: cpusType, help: 'Reserve CPUs' },
    { name: 'reserve-memory', type: bytesType, help: 'Reserve Memory' },
    {
      name: 'restart-condition',
      type: textType,
      help: 'Restart when condition is met ("none", "on-failure", "any")',
      ...shown('"any"'),
      complete: ['none', 'on-failure', 'any'],
    },
    { name: 'restart-delay', type: durationType, help: `Delay between restart attempts ${UNITS}`, ...shown('5s') },
    { name: 'restart-max-attempts', type: uintType, help: 'Maximum number of restarts before giving up' },
    { name: 'restart-window', type: durationType, help: `Window used to evaluate the restart policy ${UNITS}` },
    {
      name: 'stop-grace-period',
      type: durationType,
      help: `Time to wait before force killing a container ${UNITS}`,
      ...shown('10s'),
    },
    { name: 'stop-signal', type: textType, help: 'Signal to stop the container' },
    { name: 'tty', short: 't', type: switchType, help: 'Allocate a pseudo-TTY' },
    { name: 'user', short: 'u', type: textType, help: 'Username or UID (format: <name|uid>[:<group|gid>])' },
    { name: 'with-registry-auth', type: switchType, help: 'Send registry authentication details to swarm agents' },
    { name: 'workdir', short: 'w', type: textType, help: 'Working directory inside the container' },
    ...updateFlags('update', creating),
    ...updateFlags('rollback', creating),
  ]
}

export const createFlags: readonly Flag[] = [
  ...commonFlags(true),
  { name: 'config', type: configType, help: 'Specify configurations to expose to the service', complete: 'config' },
  { name: 'constraint', type: listType, help: 'Placement constraints' },
  { name: 'container-label', type: labelType, help: 'Container labels' },
  { name: 'dns', type: ipType, help: 'Set custom DNS servers' },
  { name: 'dns-option', type: listType, help: 'Set DNS options' },
  { name: 'dns-search', type: searchType, help: 'Set custom DNS search domains' },
  { name: 'env', short: 'e', type: environmentType, help: 'Set environment variables' },
  { name: 'env-file', type: listType, help: 'Read in a file of environment variables' },
  { name: 'generic-resource', type: genericType, help: 'User defined resources' },
  { name: 'group', type: listType, help: 'Set one or more supplementary user groups for the container' },
  { name: 'host', type: hostType, help: 'Set one or more custom host-to-IP mappings (host:ip)' },
  { name: 'label', short: 'l', type: labelType, help: 'Service labels' },
  {
    name: 'mode',
    type: textType,
    help: 'Service mode ("replicated", "global", "replicated-job", "global-job")',
    shownDefault: '"replicated"',
    complete: ['replicated', 'global', 'replicated-job', 'global-job'],
  },
  { name: 'mount', type: mountType, help: 'Attach a filesystem mount to the service' },
  { name: 'name', type: textType, help: 'Service name' },
  { name: 'network', type: networkType, help: 'Network attachments', complete: 'network' },
  { name: 'placement-pref', type: preferenceType, help: 'Add a placement preference' },
  { name: 'publish', short: 'p', type: portType, help: 'Publish a port as a node port' },
  { name: 'secret', type: secretType, help: 'Specify secrets to expose to the service', complete: 'secret' },
  { name: 'sysctl', type: listType, help: 'Sysctl options', since: '1.40' },
  { name: 'ulimit', type: ulimitType, help: 'Ulimit options', since: '1.41' },
]

export const updateCommandFlags: readonly Flag[] = [
  ...commonFlags(false),
  { name: 'args', type: commandType, help: 'Service command args' },
  { name: 'config-add', type: configType, help: 'Add or update a config file on a service', complete: 'config' },
  { name: 'config-rm', type: listType, help: 'Remove a configuration file', complete: 'config' },
  { name: 'constraint-add', type: listType, help: 'Add or update a placement constraint' },
  { name: 'constraint-rm', type: listType, help: 'Remove a constraint' },
  { name: 'container-label-add', type: labelType, help: 'Add or update a container label' },
  { name: 'container-label-rm', type: listType, help: 'Remove a container label by its key' },
  { name: 'dns-add', type: ipType, help: 'Add or update a custom DNS server' },
  { name: 'dns-option-add', type: listType, help: 'Add or update a DNS option' },
  { name: 'dns-option-rm', type: listType, help: 'Remove a DNS option' },
  { name: 'dns-rm', type: listType, help: 'Remove a custom DNS server' },
  { name: 'dns-search-add', type: searchType, help: 'Add or update a custom DNS search domain' },
  { name: 'dns-search-rm', type: listType, help: 'Remove a DNS search domain' },
  { name: 'env-add', type: environmentType, help: 'Add or update an environment variable' },
  { name: 'env-rm', type: listType, help: 'Remove an environment variable' },
  { name: 'force', type: switchType, help: 'Force update even if no changes require it' },
  { name: 'generic-resource-add', type: genericType, help: 'Add a Generic resource' },
  { name: 'generic-resource-rm', type: listType, help: 'Remove a Generic resource' },
  { name: 'group-add', type: listType, help: 'Add an additional supplementary user group to the container' },
  {
    name: 'group-rm',
    type: listType,
    help: 'Remove a previously added supplementary user group from the container',
  },
  { name: 'host-add', type: hostType, help: 'Add a custom host-to-IP mapping ("host:ip")' },
  { name: 'host-rm', type: listType, help: 'Remove a custom host-to-IP mapping ("host:ip")' },
  { name: 'image', type: textType, help: 'Service image tag' },
  { name: 'label-add', type: labelType, help: 'Add or update a service label' },
  { name: 'label-rm', type: listType, help: 'Remove a label by its key' },
  { name: 'mount-add', type: mountType, help: 'Add or update a mount on a service' },
  { name: 'mount-rm', type: listType, help: 'Remove a mount by its target path' },
  { name: 'network-add', type: networkType, help: 'Add a network', complete: 'network' },
  { name: 'network-rm', type: listType, help: 'Remove a network', complete: 'network' },
  { name: 'placement-pref-add', type: preferenceType, help: 'Add a placement preference' },
  { name: 'placement-pref-rm', type: preferenceType, help: 'Remove a placement preference' },
  { name: 'publish-add', type: portType, help: 'Add or update a published port' },
  { name: 'publish-rm', type: portType, help: 'Remove a published port by its target port' },
  { name: 'rollback', type: switchType, help: 'Rollback to previous specification' },
  { name: 'secret-add', type: secretType, help: 'Add or update a secret on a service', complete: 'secret' },
  { name: 'secret-rm', type: listType, help: 'Remove a secret', complete: 'secret' },
  { name: 'sysctl-add', type: listType, help: 'Add or update a Sysctl option', since: '1.40' },
  { name: 'sysctl-rm', type: listType, help: 'Remove a Sysctl option', since: '1.40' },
  { name: 'ulimit-add', type: ulimitType, help: 'Add or update a ulimit option', since: '1.41' },
  { name: 'ulimit-rm', type: listType, help: 'Remove a ulimit option', since: '1.41' },
]
