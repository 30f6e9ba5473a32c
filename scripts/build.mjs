// build/ by tsc, then dist/ by the bundler. Old output goes first: a test whose source is gone must not run.
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
try {
  rmSync(join(root, 'build'), { recursive: true, force: true })
} catch (error) {
  console.error(
    `build: the old build/ cannot be removed (${error.code}): "sudo make clean" removes what root has built`,
  )
  process.exit(1)
}
const steps = [
  [join(root, 'node_modules/.bin/tsc'), '-p', 'tsconfig.json'],
  [process.execPath, 'scripts/bundle.mjs'],
]
for (const [program, ...args] of steps) {
  const { status } = spawnSync(program, args, { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}
