// The exercises of the course "Docker Mastery" that take longer than an end-to-end test may: spreading, placement, merged files.
// (The others are in test/e2e/voting-app.test.ts.)

import t from 'tap'
import { Lab } from '../../lab/lab.ts'
import { defaultLabDir } from '../../lab/layout.ts'
import { Cluster } from '../e2e/support/cluster.ts'
import { courseByStacks } from '../e2e/support/course.ts'
import { FILE_TIMEOUT_MS } from '../e2e/support/shared-lab.ts'

const own = { name: 'e2ecourse', dir: defaultLabDir('e2ecourse') }
t.setTimeout(FILE_TIMEOUT_MS)
t.teardown(() => Lab.down(own))
const log = (line: string): void => t.comment(line)
const lab = await Lab.up({ ...own, managers: 1, workers: 2, images: 'voting-app', log })
courseByStacks(t, await Cluster.form(lab))
