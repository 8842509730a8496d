#!/bin/bash
set -x
failed=0
trap 'failed=6; echo "Failed: $BASH_COMMAND" >&2' ERR
# The folder of the results
rm -rf benchmark_logs
mkdir -p benchmark_logs

# performance of torchbench: training, float32, cuda
python benchmarks/dynamo/torchbench.py --performance --float32 -dcuda --output=benchmark_logs/eager_torchbench_float32_training_cuda_performance.csv --training --backend=eager --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn
python benchmarks/dynamo/torchbench.py --performance --float32 -dcuda --output=benchmark_logs/aot_eager_torchbench_float32_training_cuda_performance.csv --training --backend=aot_eager --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn
python benchmarks/dynamo/torchbench.py --performance --float32 -dcuda --output=benchmark_logs/inductor_torchbench_float32_training_cuda_performance.csv --training --inductor --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn --cold-start-latency
python benchmarks/dynamo/torchbench.py --performance --float32 -dcuda --output=benchmark_logs/inductor_no_cudagraphs_torchbench_float32_training_cuda_performance.csv --training --inductor --disable-cudagraphs --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn --cold-start-latency

# performance of huggingface: training, float32, cuda
python benchmarks/dynamo/huggingface.py --performance --float32 -dcuda --output=benchmark_logs/eager_huggingface_float32_training_cuda_performance.csv --training --backend=eager --no-skip --dashboard -x GPTJForCausalLM
python benchmarks/dynamo/huggingface.py --performance --float32 -dcuda --output=benchmark_logs/aot_eager_huggingface_float32_training_cuda_performance.csv --training --backend=aot_eager --no-skip --dashboard -x GPTJForCausalLM
python benchmarks/dynamo/huggingface.py --performance --float32 -dcuda --output=benchmark_logs/inductor_huggingface_float32_training_cuda_performance.csv --training --inductor --no-skip --dashboard -x GPTJForCausalLM --cold-start-latency
python benchmarks/dynamo/huggingface.py --performance --float32 -dcuda --output=benchmark_logs/inductor_no_cudagraphs_huggingface_float32_training_cuda_performance.csv --training --inductor --disable-cudagraphs --no-skip --dashboard -x GPTJForCausalLM --cold-start-latency

# performance of timm_models: training, float32, cuda
python benchmarks/dynamo/timm_models.py --performance --float32 -dcuda --output=benchmark_logs/eager_timm_models_float32_training_cuda_performance.csv --training --backend=eager --no-skip --dashboard
python benchmarks/dynamo/timm_models.py --performance --float32 -dcuda --output=benchmark_logs/aot_eager_timm_models_float32_training_cuda_performance.csv --training --backend=aot_eager --no-skip --dashboard
python benchmarks/dynamo/timm_models.py --performance --float32 -dcuda --output=benchmark_logs/inductor_timm_models_float32_training_cuda_performance.csv --training --inductor --no-skip --dashboard --cold-start-latency
python benchmarks/dynamo/timm_models.py --performance --float32 -dcuda --output=benchmark_logs/inductor_no_cudagraphs_timm_models_float32_training_cuda_performance.csv --training --inductor --disable-cudagraphs --no-skip --dashboard --cold-start-latency

# accuracy of torchbench: training, float32, cuda
python benchmarks/dynamo/torchbench.py --accuracy --float32 -dcuda --output=benchmark_logs/eager_torchbench_float32_training_cuda_accuracy.csv --training --backend=eager --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn
python benchmarks/dynamo/torchbench.py --accuracy --float32 -dcuda --output=benchmark_logs/aot_eager_torchbench_float32_training_cuda_accuracy.csv --training --backend=aot_eager --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn
python benchmarks/dynamo/torchbench.py --accuracy --float32 -dcuda --output=benchmark_logs/inductor_torchbench_float32_training_cuda_accuracy.csv --training --inductor --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn --cold-start-latency
python benchmarks/dynamo/torchbench.py --accuracy --float32 -dcuda --output=benchmark_logs/inductor_no_cudagraphs_torchbench_float32_training_cuda_accuracy.csv --training --inductor --disable-cudagraphs --no-skip --dashboard -x fambench_xlmr -x detectron2_maskrcnn --cold-start-latency

# accuracy of huggingface: training, float32, cuda
python benchmarks/dynamo/huggingface.py --accuracy --float32 -dcuda --output=benchmark_logs/eager_huggingface_float32_training_cuda_accuracy.csv --training --backend=eager --no-skip --dashboard -x GPTJForCausalLM
python benchmarks/dynamo/huggingface.py --accuracy --float32 -dcuda --output=benchmark_logs/aot_eager_huggingface_float32_training_cuda_accuracy.csv --training --backend=aot_eager --no-skip --dashboard -x GPTJForCausalLM
python benchmarks/dynamo/huggingface.py --accuracy --float32 -dcuda --output=benchmark_logs/inductor_huggingface_float32_training_cuda_accuracy.csv --training --inductor --no-skip --dashboard -x GPTJForCausalLM --cold-start-latency
python benchmarks/dynamo/huggingface.py --accuracy --float32 -dcuda --output=benchmark_logs/inductor_no_cudagraphs_huggingface_float32_training_cuda_accuracy.csv --training --inductor --disable-cudagraphs --no-skip --dashboard -x GPTJForCausalLM --cold-start-latency

# accuracy of timm_models: training, float32, cuda
python benchmarks/dynamo/timm_models.py --accuracy --float32 -dcuda --output=benchmark_logs/eager_timm_models_float32_training_cuda_accuracy.csv --training --backend=eager --no-skip --dashboard
python benchmarks/dynamo/timm_models.py --accuracy --float32 -dcuda --output=benchmark_logs/aot_eager_timm_models_float32_training_cuda_accuracy.csv --training --backend=aot_eager --no-skip --dashboard
python benchmarks/dynamo/timm_models.py --accuracy --float32 -dcuda --output=benchmark_logs/inductor_timm_models_float32_training_cuda_accuracy.csv --training --inductor --no-skip --dashboard --cold-start-latency
python benchmarks/dynamo/timm_models.py --accuracy --float32 -dcuda --output=benchmark_logs/inductor_no_cudagraphs_timm_models_float32_training_cuda_accuracy.csv --training --inductor --disable-cudagraphs --no-skip --dashboard --cold-start-latency

exit "$failed"
