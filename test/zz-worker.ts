import * as S from "effect-stores/sqlite"
console.log("up", Object.keys(S).length > 0, Math.round(performance.now()))
if (process.argv[2] !== "once") setInterval(() => {}, 1000)
