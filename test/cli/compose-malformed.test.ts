// Compose files that are wrong in ways that Docker's own parser does not know, or in which it says less: each has its message
// with file, line and column, and nothing is sent. compose-errors.test.ts has those that docker refuses in the same words.

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are the compose files' variables

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { StackRecorder } from './compose-recorder.ts'
import { swarmctl } from './compose-run.ts'

/** What stands below a service named web, from line 4 and column 5 on. */
const web = (body: string) => `services:\n  web:\n    image: nginx\n    ${body}\n`
const top = (body: string) => `services: {}\n${body}\n`
/** Line and column, and what is said. */
type Case = readonly [text: string, at: string, says: string]

const YAML: readonly Case[] = [
  ['services: [\n', '2:1', 'yaml: Flow sequence in block collection must be sufficiently indented and end with a ]'],
  [
    'services: {web: {image: x}\n',
    '2:1',
    'yaml: Flow map in block collection must be sufficiently indented and end with a }',
  ],
  ['services:\n  web:\n\timage: x\n', '3:1', 'yaml: Tabs are not allowed as indentation'],
  ['services:\n  web:\n    image: "x\n', '4:1', 'yaml: Missing closing "quote'],
  ['services:\n  web: {image: x}\n  web: {image: y}\n', '3:3', 'yaml: mapping key "web" already defined at line 2'],
  ['a: &a [*a]\nservices: {}\n', '1:8', "yaml: anchor 'a' value contains itself"],
  ['services: {web: {image: !secret x}}\n', '1:33', 'yaml: unknown tag !secret: only !reset and !override are known'],
  ['services: {web: {image: x, <<: [1]}}\n', '1:33', 'yaml: map merge requires map or sequence of maps as the value'],
  ['services: {1: {image: x}}\n', '1:12', 'Non-string key: 1'],
  ['services: {? [a] : {image: x}}\n', '1:14', 'Non-string key'],
  [`x: ${'{a: '.repeat(150)}1${'}'.repeat(150)}\nservices: {}\n`, '1:401', 'yaml: more than 100 levels of nesting'],
  ['web:\n  image: x\n', '1:1', '(root) Additional property web is not allowed'],
  [
    'service:\n  web: {image: x}\n',
    '1:1',
    '(root) Additional property service is not allowed (did you mean services?)',
  ],
]

const KEYS: readonly Case[] = [
  [web('port: ["80:80"]'), '4:5', 'services.web Additional property port is not allowed (did you mean ports?)'],
  [web('volume: [a]'), '4:5', 'services.web Additional property volume is not allowed (did you mean volumes?)'],
  [
    web('depends-on: [a]'),
    '4:5',
    'services.web Additional property depends-on is not allowed (did you mean depends_on?)',
  ],
  [web('Command: a'), '4:5', 'services.web Additional property Command is not allowed (did you mean command?)'],
  [web('restrat: always'), '4:5', 'services.web Additional property restrat is not allowed (did you mean restart?)'],
  [
    web('deploy: {replica: 2}'),
    '4:14',
    'services.web.deploy Additional property replica is not allowed (did you mean replicas?)',
  ],
  [
    web('deploy: {resources: {limit: {}}}'),
    '4:26',
    'services.web.deploy.resources Additional property limit is not allowed (did you mean limits?)',
  ],
  [
    web('deploy: {placement: {constraint: []}}'),
    '4:26',
    'services.web.deploy.placement Additional property constraint is not allowed (did you mean constraints?)',
  ],
  [
    web('healthcheck: {intervall: 1s}'),
    '4:19',
    'services.web.healthcheck Additional property intervall is not allowed (did you mean interval?)',
  ],
  [
    web('volumes: [{type: bind, src: /a, target: /b}]'),
    '4:28',
    'services.web.volumes.0 Additional property src is not allowed',
  ],
  [
    web('post_start: [{command: a}]'),
    '4:5',
    'services.web Additional property post_start is not allowed (the engine runs no commands',
  ],
  [
    web('pre_stop: [{command: a}]'),
    '4:5',
    'services.web Additional property pre_stop is not allowed (the engine runs no commands',
  ],
  [web('models: [llm]'), '4:5', 'services.web Additional property models is not allowed (a cluster runs no models;'],
  [
    web('provider: {type: x}'),
    '4:5',
    'services.web Additional property provider is not allowed (what a provider starts is no service',
  ],
  [
    web('use_api_socket: true'),
    '4:5',
    'services.web Additional property use_api_socket is not allowed (bind /var/run/docker.sock instead',
  ],
  [
    web('volumes: [{type: bind, source: /a, target: /b, bind: {selinux: z}}]'),
    '4:59',
    'services.web.volumes.0.bind Additional property selinux is not allowed (the engine relabels no mounts;',
  ],
  [
    web('networks: {default: {mac_address: a}}'),
    '4:26',
    'services.web.networks.default Additional property mac_address is not allowed (interfaces of tasks are made by the cluster)',
  ],
  [
    web('networks: {default: {interface_name: a}}'),
    '4:26',
    'services.web.networks.default Additional property interface_name is not allowed (interfaces',
  ],
  [
    web('networks: {default: {link_local_ips: [a]}}'),
    '4:26',
    'services.web.networks.default Additional property link_local_ips is not allowed (tasks take any free address',
  ],
  [
    top('models: {a: {model: b}}'),
    '2:1',
    '(root) Additional property models is not allowed (a cluster runs no models;',
  ],
  [
    web('volumes_from: [db]'),
    '4:5',
    'compose file contains unsupported options:\n\nvolumes_from: To share a volume between services, define it',
  ],
  [
    web('volume_driver: x'),
    '4:5',
    'compose file contains unsupported options:\n\nvolume_driver: Instead of setting the volume driver',
  ],
  [top('networks: {a: {subnet: 10.0.0.0/8}}'), '2:16', 'networks.a Additional property subnet is not allowed'],
  [top('secrets: {a: {content: x}}'), '2:15', 'secrets.a Additional property content is not allowed'],
  [top('configs: {a: {driver: x}}'), '2:15', 'configs.a Additional property driver is not allowed'],
]

const TYPES: readonly Case[] = [
  [web('tty: maybe'), '4:10', 'services.web.tty must be a boolean'],
  [web('deploy: {replicas: many}'), '4:24', 'services.web.deploy.replicas must be a integer'],
  [web('deploy: {replicas: 1.5}'), '4:24', 'services.web.deploy.replicas must be a integer'],
  [web('deploy: {replicas: -1}'), '4:24', 'replicas must be a whole number, not below 0: -1'],
  [
    web('deploy: {update_config: {max_failure_ratio: half}}'),
    '4:49',
    'services.web.deploy.update_config.max_failure_ratio must be a number',
  ],
  [
    web('deploy: {update_config: {order: backwards}}'),
    '4:37',
    'services.web.deploy.update_config.order must be one of the following: "start-first", "stop-first"',
  ],
  [web('cgroup: shared'), '4:13', 'services.web.cgroup must be one of the following: "host", "private"'],
  [web('gpus: some'), '4:11', 'services.web.gpus must be one of the following: "all"'],
  [web('gpus: 1'), '4:11', 'services.web.gpus must be a string'],
  [web('mem_limit: [1]'), '4:16', 'services.web.mem_limit must be a number or string'],
  [web('mem_limit: lots'), '4:16', "invalid size: 'lots'"],
  [web('mem_reservation: 5x'), '4:22', "invalid suffix: 'x'"],
  [web('memswap_limit: -5m'), '4:5', "service web: invalid size: '-5m'"],
  [web('cpus: a lot'), '4:5', 'service web: failed to parse a lot as a rational number'],
  [web('pids_limit: few'), '4:17', 'services.web.pids_limit must be a number'],
  [web('oom_score_adj: -1001'), '4:20', 'services.web.oom_score_adj Must be greater than or equal to -1000'],
  [
    web('stop_grace_period: 1 minute'),
    '4:24',
    'services.web.stop_grace_period Does not match format \'duration\' (time: unknown unit " minute" in duration "1 minute")',
  ],
  [web('healthcheck: {interval: "-"}'), '4:29', "services.web.healthcheck.interval Does not match format 'duration'"],
  [web('deploy: {restart_policy: {delay: 5}}'), '4:38', 'services.web.deploy.restart_policy.delay must be a string'],
  [web('ulimits: {nofile: lots}'), '4:23', 'services.web.ulimits.nofile must be a integer'],
  [web('ulimits: {nofile: {soft: 1}}'), '4:23', 'services.web.ulimits.nofile hard is required'],
  [web('secrets: [{source: a, mode: "0999"}]'), '4:33', 'invalid mode: "0999": must be octal, such as "0440"'],
  [web('secrets: [{source: a, mode: 99999}]'), '4:33', 'invalid mode: 99999: permissions are at most 07777, in octal'],
  [
    web('volumes: [{type: tmpfs, target: /a, tmpfs: {mode: rwx}}]'),
    '4:55',
    'invalid mode: "rwx": must be octal, such as "0440"',
  ],
  [web('volumes: [{type: tmpfs, target: /a, tmpfs: {size: big}}]'), '4:55', "invalid size: 'big'"],
  [
    web('volumes: [{type: bind, source: /a, target: /b, bind: {recursive: sometimes}}]'),
    '4:70',
    'services.web.volumes.0.bind.recursive must be one of the following: "enabled", "disabled", "writable", "readonly"',
  ],
  [
    web('ports: [{target: 80, published: "80-"}]'),
    '4:37',
    'invalid published port: "80-": must be a number or a range',
  ],
  [web('ports: [{target: 80, published: "90-80"}]'), '4:37', 'invalid published port: "90-80": not a range of ports'],
  [web('ports: [{target: 80, published: 70000}]'), '4:37', 'invalid published port: 70000: value out of range'],
  [web('ports: [{target: http}]'), '4:22', 'services.web.ports.0.target must be a integer'],
  [web('ports: ["80:80:80:80"]'), '4:13', "services.web.ports.0 Does not match format 'ports'"],
  [web('device_cgroup_rules: [a, a]'), '4:30', 'services.web.device_cgroup_rules array items[0,1] must be unique'],
  [web('devices: [{target: /dev/a}]'), '4:15', 'services.web.devices.0 source is required'],
  [web('extra_hosts: {a: {b: c}}'), '4:22', 'services.web.extra_hosts.a must be a string, number or null'],
  [web('environment: {A: {b: c}}'), '4:22', 'services.web.environment.A must be a string, number, boolean or null'],
  [
    web('env_file: [{path: a, format: dotenv}]'),
    '4:34',
    'services.web.env_file.0.format must be one of the following: "raw"',
  ],
  [web('env_file: [{required: false}]'), '4:16', 'services.web.env_file.0 path is required'],
  [web('label_file: none.labels'), '4:17', 'open FOLDER/none.labels: no such file or directory'],
  [web('blkio_config: {weight: heavy}'), '4:28', 'services.web.blkio_config.weight must be a integer'],
  [web('profiles: debug'), '4:15', 'services.web.profiles must be a list'],
  [top('name: 5'), '2:7', 'name must be a string'],
  [top('networks: {a: {enable_ipv6: perhaps}}'), '2:29', 'networks.a.enable_ipv6 must be a boolean'],
]

const VARIABLES: readonly Case[] = [
  [
    web('hostname: ${A:?set A to a host}'),
    '4:15',
    'invalid interpolation format for services.web.hostname: "required variable A is missing a value: set A to a host"; you may need to escape any $ with another $',
  ],
  [
    web('hostname: ${A:?${B:-both}}'),
    '4:15',
    'invalid interpolation format for services.web.hostname: "required variable A is missing a value: both"',
  ],
  [web('hostname: ${A'), '4:15', 'invalid interpolation format for services.web.hostname: "${A"'],
  [web('hostname: ${A:-${B}'), '4:15', 'invalid interpolation format for services.web.hostname: "${A:-${B}"'],
  [web('hostname: ${A:=b}'), '4:15', 'invalid interpolation format for services.web.hostname: "${A:=b}"'],
  [web('hostname: ${A B}'), '4:15', 'invalid interpolation format for services.web.hostname: "${A B}"'],
  [web('hostname: ${}'), '4:15', 'invalid interpolation format for services.web.hostname: "${}"'],
  [web('hostname: $-'), '4:15', 'invalid interpolation format for services.web.hostname: "$-"'],
  [
    web('deploy: {replicas: "${COUNT:-many}"}'),
    '4:24',
    'error while interpolating services.web.deploy.replicas: failed to cast to expected type: strconv.Atoi: parsing "many": invalid syntax',
  ],
  [
    web('privileged: "${NOT_SET:-perhaps}"'),
    '4:17',
    'error while interpolating services.web.privileged: failed to cast to expected type: invalid boolean: perhaps',
  ],
  [top('secrets: {a: {environment: NOT_SET}}'), '2:28', 'secret a: the environment variable "NOT_SET" is not set'],
]

const FILES: readonly Case[] = [
  [
    web('extends: {file: base.yml, service: nothing}'),
    '4:40',
    'cannot extend service "web": service "nothing" not found in FOLDER/base.yml',
  ],
  [
    web('extends: {file: base.yml, service: bas}'),
    '4:40',
    'cannot extend service "web": service "bas" not found in FOLDER/base.yml (did you mean base?)',
  ],
  [web('extends: web'), '4:14', 'circular reference with extends: web → web (FILE:4:14)'],
  [
    web('extends: {file: loop.yml, service: a}'),
    '',
    'FOLDER/loop.yml:1:25: circular reference with extends: a → b → a (FOLDER/loop.yml:1:25, FOLDER/loop.yml:1:53)',
  ],
  [web('extends: {file: none.yml, service: a}'), '4:21', 'open FOLDER/none.yml: no such file or directory'],
  [web('extends: {file: folder, service: a}'), '4:21', 'read FOLDER/folder: is a directory'],
  [
    web('extends: {file: wrong.yml, service: a}'),
    '',
    'services.a Additional property imag is not allowed (did you mean image?)',
  ],
  [web('extends: [a]'), '4:14', 'services.web.extends must be a string'],
  [
    web('extends: {service: a, files: b}'),
    '4:27',
    'services.web.extends Additional property files is not allowed (did you mean file?)',
  ],
  [top('include: base.yml'), '2:10', 'include must be a list'],
  [top('include: [none.yml]'), '2:11', 'open FOLDER/none.yml: no such file or directory'],
  [top('include: [{path: base.yml, env_file: none.env}]'), '2:11', 'open FOLDER/none.env: no such file or directory'],
  [
    top('include: [{paths: base.yml}]'),
    '2:12',
    'include.0 Additional property paths is not allowed (did you mean path?)',
  ],
  [
    top('include: ["https://example.com/a.yml"]'),
    '2:11',
    '"https://example.com/a.yml" is not on this machine: fetch it, and name the file',
  ],
  [top('include: ["git@example.com:a/b.git"]'), '2:11', '"git@example.com:a/b.git" is not on this machine'],
  [
    'include: [base.yml]\nservices: {base: {image: other}}\n',
    '2:12',
    'services.base conflicts with that of FOLDER/base.yml:1:12, which is included at FILE:1:11',
  ],
  [top('include: [round.yml]'), '', 'include cycle detected: case.yml → round.yml → round.yml'],
  [top('include: [huge.yml]'), '2:11', 'FOLDER/huge.yml is too large: 10485760 bytes, 4194304 at most'],
]

const STACK: readonly Case[] = [
  [
    'services: {web: {build: .}}\n',
    '1:18',
    'service web has a build and no image: a cluster builds no images: build where the sources are (docker build -t NAME CONTEXT), push',
  ],
  [web('depends_on: [dbs]').concat('  db: {image: x}\n'), '4:18', 'service "web" depends on undefined service "dbs"'],
  [web('depends_on: [web]'), '4:18', 'dependency cycle detected: web → web'],
  [
    web('depends_on: {db: {condition: service_up}}').concat('  db: {image: x}\n'),
    '4:34',
    'services.web.depends_on.db.condition must be one of the following: "service_started", "service_healthy", "service_completed_successfully"',
  ],
  [
    web('depends_on: {db: {}}').concat('  db: {image: x}\n'),
    '4:22',
    'services.web.depends_on.db condition is required',
  ],
  [
    web('depends_on: [db]').concat('  db: {image: x, profiles: [p]}\n'),
    '4:18',
    'service "web" depends on "db", which no active profile has: enable it with --profile "p"',
  ],
  [
    web('network_mode: container:x'),
    '4:5',
    'service web: network_mode: "container:x" cannot be: it must be host, none or bridge; tasks of services may run on different nodes',
  ],
  [
    web('network_mode: host\n    networks: [n]').concat('networks: {n: {}}\n'),
    '4:5',
    'service web: network_mode and networks cannot be used together',
  ],
  [
    web('ipc: service:db'),
    '4:5',
    'service web: ipc: "service:db" cannot be: tasks of services may run on different nodes',
  ],
  [
    web('security_opt: [everything]'),
    '4:5',
    'service web: security_opt: invalid value "everything": must be no-new-privileges, apparmor=…',
  ],
  [web('shm_size: 5parsecs'), '4:5', "service web: invalid suffix: 'parsecs'"],
  [
    web('platform: linux/amd64/v1/x'),
    '4:5',
    'service web: platform: invalid value "linux/amd64/v1/x": must be as linux/amd64',
  ],
  [web('volumes: ["data:/data"]'), '4:15', 'service web: undefined volume "data"'],
  [
    web('configs: [a]').concat('configs: {a: {}}\n'),
    '5:11',
    'config a: no content: it needs file, environment, content or external: true',
  ],
  [
    web('secrets: [a]').concat('secrets: {a: {file: x, environment: PORT}}\n'),
    '5:37',
    'secret a: secret.file and secret.environment conflict; only use one of them',
  ],
]

const ALL = { YAML, KEYS, TYPES, VARIABLES, FILES, STACK }

const folder = mkdtempSync(join(tmpdir(), 'compose-malformed-'))
t.teardown(() => rmSync(folder, { recursive: true }))
writeFileSync(join(folder, 'base.yml'), 'services: {base: {image: x}}\n')
writeFileSync(join(folder, 'wrong.yml'), 'services: {a: {imag: x}}\n')
writeFileSync(join(folder, 'round.yml'), 'include: [round.yml]\n')
writeFileSync(join(folder, 'loop.yml'), 'services: {a: {extends: {service: b}}, b: {extends: {service: a}}}\n')
writeFileSync(join(folder, 'huge.yml'), `services: {}\n${'#'.repeat(10_485_760 - 13)}`)
mkdirSync(join(folder, 'folder'))
const file = join(folder, 'case.yml')
const recorder = new StackRecorder()
await recorder.listen(join(folder, 'recorder.sock'))
t.teardown(() => recorder.close())
const environment = { HOME: folder, PORT: '80', DOCKER_HOST: `unix://${join(folder, 'recorder.sock')}` }
const deploy = (path: string, stdin = '') =>
  swarmctl(['stack', 'deploy', '-d', '--resolve-image', 'never', '-c', path, 'st'], environment, stdin)

t.test('there are enough of them', async (t) => {
  t.ok(Object.values(ALL).flat().length >= 80)
})

for (const [group, cases] of Object.entries(ALL)) {
  t.test(group, async (t) => {
    for (const [text, at, says] of cases) {
      writeFileSync(file, text)
      const { exitCode, stderr } = await deploy(file)
      const name = text.replaceAll('\n', '⏎').slice(0, 100)
      t.equal(exitCode, 1, name)
      const wanted = says.replaceAll('FOLDER', folder).replaceAll('FILE', file)
      const where = at === '' ? '' : `${file}:${at}: `
      t.ok(stderr.includes(`${where}${wanted}`), `${name}: ${stderr}`)
      t.match(stderr, /:[0-9]+:[0-9]+: /, 'it has a place')
      t.same(recorder.take(), [], 'nothing is sent')
    }
  })
}

t.test('a file that is too large is not read, from wherever it comes', async (t) => {
  const large = 'x'.repeat(10_485_760)
  writeFileSync(file, large)
  t.match((await deploy(file)).stderr, /case\.yml: the file is too large: 10485760 bytes, 4194304 at most/)
  t.match((await deploy('-', large)).stderr, /stdin: the file is too large: 4194304 bytes at most/)
})

t.test('aliases that grow without end are refused, before they have grown', async (t) => {
  const level = (i: number) =>
    `x-${i}: &x${i} {${Array.from({ length: 10 }, (_, k) => `k${k}: *x${i - 1}`).join(', ')}}\n`
  const bomb = `x-0: &x0 {a: b}\n${Array.from({ length: 20 }, (_, i) => level(i + 1)).join('')}services: {}\n`
  writeFileSync(file, bomb)
  const { stderr } = await deploy(file)
  t.match(stderr, /case\.yml:[0-9]+:[0-9]+: yaml: document contains excessive aliasing/)
})

t.test('a large file that is none too large is read', async (t) => {
  const services = Array.from(
    { length: 3000 },
    (_, i) => `  s${i}: {image: x, environment: [A=${i}, "B=${'b'.repeat(80)}"]}\n`,
  )
  writeFileSync(file, `services:\n${services.join('')}`)
  const { exitCode, stderr } = await swarmctl(['stack', 'config', '-c', file], environment)
  t.equal(exitCode, 0, stderr)
})
