#!/usr/bin/env bash
# The paper in miniature, on phantoms: all methods, four checkpoints each, all scores, one page.
#
#     examples/phantom-study/study.sh cpu study     64 x 64, for two CPU cores
#     examples/phantom-study/study.sh gpu study     256 x 256, for a GPU
#
# Stopped and called again it goes on, as every ctsynth command does. README.md says more.
set -euo pipefail

size=${1:?"usage: study.sh cpu|gpu OUT"} out=${2:?"usage: study.sh cpu|gpu OUT"}

# The slowest first, so that no long training is left for the end.
methods=${METHODS:-"oasis spade edm-volume edm sdm ddpm-edge ddpm-mask ddpm-concat pix2pix"}

# Checkpoints are in the ratios of the paper's 25k, 50k, 100k and 150k; the last is the number of iterations.
case $size in
  cpu) phantoms="--subjects 24 --test-subjects 6 --size 96 --slices 24" pixels=64
       training="--preset tiny --batch-size 8" segmenter="--preset tiny --iterations 1200"
       checkpoints=100,200,400,600 device=cpu jobs=2
       export OMP_NUM_THREADS=1 ;;
  gpu) phantoms="--subjects 120 --test-subjects 20 --size 256 --slices 72" pixels=256
       training="--preset small --batch-size 16" segmenter="--preset default --iterations 10000"
       checkpoints=2500,5000,10000,15000 device=cuda jobs=1 ;;
  *) echo "no size is called $size: cpu or gpu" >&2; exit 2 ;;
esac
first=${checkpoints%%,*} last=${checkpoints##*,}
export training segmenter checkpoints device first last

train() {  # segmenter|METHOD; SPADE without VGG19's loss, which not everyone has the weights for
  local more=(); [[ $1 != spade ]] || more=(--vgg no)
  if [[ $1 == segmenter ]]; then
    ctsynth train-segmenter store $segmenter --device "$device" --out runs/segmenter
  else
    ctsynth train --data store --method "$1" $training "${more[@]}" --iterations "$last" --save-every "$first" \
      --keep-every "$first" --sample-every "$last" --device "$device" --out "runs/$1"
  fi
}

score() {  # METHOD: draws the test subjects with each checkpoint and scores them
  ctsynth score "runs/$1" --checkpoint "$checkpoints" --data store --segmenter runs/segmenter --device "$device"
}

each() {  # train|score NAME ...: $jobs at a time
  local what=$1; shift
  export -f "$what"
  printf '%s\n' "$@" | xargs -n 1 -P "$jobs" bash -c \
    "$what \$0 > logs/$what-\$0.log 2>&1 && echo $what \$0: done || { echo $what \$0: failed, see logs/$what-\$0.log; exit 1; }"
}

mkdir -p "$out/logs"
cd "$out"
ctsynth phantom phantoms $phantoms
ctsynth preprocess phantoms store --size $pixels
each train $methods segmenter
each score $methods
ctsynth report $(printf 'runs/%s runs/%s/scored ' $(for method in $methods; do echo $method $method; done)) --out report
times > logs/times
echo "$SECONDS s; CPU time, user and system: $(tail -1 logs/times)" | tee -a logs/seconds >&2
